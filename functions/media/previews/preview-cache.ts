/** Previews are made once, however many ask for them and wherever: who comes first has a claim in the database, the others
 *  wait for what is stored there. What cannot be fetched is kept for a while too. */
import { createHash, randomUUID } from 'node:crypto'
import * as v from 'valibot'
import type { Clock } from '../../../shared/clock.ts'
import type { MainClient } from '../../../shared/commands/registry.ts'
import type { UrlPreviewKey } from '../../../shared/commands/url-previews.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { outsideRequests } from '../../../shared/request-context.ts'
import type { ReadSql } from '../../../shared/storage/sql.ts'
import { urlPreview } from '../../../shared/storage/url-previews.ts'
import { notFetched, type Preview } from './preview.ts'

const Stored = v.union([
  v.object({ preview: v.record(v.string(), v.union([v.string(), v.number()])) }),
  /** Why it could not be fetched. */
  v.object({ failure: v.string() }),
])
type Stored = v.InferOutput<typeof Stored>

export interface PreviewCache {
  /** From the cache, or made by `make`. Throws MatrixError; M_LIMIT_EXCEEDED where too many are being made. */
  get(url: URL, language: string, make: () => Promise<Preview>): Promise<Preview>
}

const failureLifetimeMs = 60_000
/** Beside the time that making one takes: for storing its picture and itself. */
const claimSpareMs = 10_000
const lookAgainMs = 250
/** Made by this process at a time. */
const underWayMax = 64

export function createPreviewCache(deps: {
  readonly sql: ReadSql
  readonly main: Pick<MainClient, 'claimUrlPreview' | 'storeUrlPreview'>
  readonly clock: Clock
  readonly lifetimeMs: number
  /** How long making one may take. */
  readonly timeoutMs: number
}): PreviewCache {
  const { sql, main, clock, lifetimeMs, timeoutMs } = deps
  const underWay = new Map<UrlPreviewKey, Promise<Stored>>()

  const stored = async (key: UrlPreviewKey): Promise<Stored | null | undefined> => {
    const answer = await urlPreview(sql, key, clock.now())
    return answer ? v.parse(v.pipe(v.string(), v.parseJson(), Stored), answer) : answer === null ? null : undefined
  }
  const make = async (key: UrlPreviewKey, claim: string, making: () => Promise<Preview>): Promise<Stored> => {
    const store = async (made: Stored): Promise<Stored> => {
      const lifetime_ms = 'preview' in made ? lifetimeMs : Math.min(lifetimeMs, failureLifetimeMs)
      await main.storeUrlPreview({ key, claim, answer: JSON.stringify(made), lifetime_ms })
      return made
    }
    let preview: Preview
    try {
      preview = await making()
    } catch (error) {
      if (error instanceof MatrixError && error.status === 502) return store({ failure: error.message })
      // Nobody waits for the end of the claim.
      await store({ failure: 'The preview could not be made' })
      throw error
    }
    return store({ preview })
  }
  /** Whoever has the claim, this process or another: resolves when there is an answer. */
  const found = async (key: UrlPreviewKey, making: () => Promise<Preview>): Promise<Stored> => {
    const claim = randomUUID()
    const claimMs = timeoutMs + claimSpareMs
    for (const until = clock.now() + claimMs; clock.now() < until; ) {
      const known = await stored(key)
      if (known) return known
      if (known === undefined) {
        const { claimed } = await main.claimUrlPreview({ key, claim, lifetime_ms: claimMs })
        if (claimed) return make(key, claim, making)
      }
      await new Promise<void>((resolve) => clock.after(lookAgainMs, resolve))
    }
    return { failure: 'The page took too long' }
  }

  return {
    async get(url, language, making) {
      const key = keyOf(url, language)
      let answer = underWay.get(key)
      if (!answer) {
        if (underWay.size >= underWayMax) throw new MatrixError('M_LIMIT_EXCEEDED', 'Too many previews are being made')
        answer = outsideRequests(() => found(key, making)).finally(() => underWay.delete(key))
        underWay.set(key, answer)
      }
      const known = await answer
      if ('failure' in known) throw notFetched(known.failure)
      return known.preview
    },
  }
}

function keyOf(url: URL, language: string): UrlPreviewKey {
  const page = new URL(url)
  page.hash = ''
  return createHash('sha256')
    .update(JSON.stringify([page.href, language]))
    .digest('hex') as UrlPreviewKey
}
