/** Who fetched what, gathered and told to main now and then: retention goes by it. What a crash takes along is no loss. */
import type { Clock } from '../../shared/clock.ts'
import { type MediaName, mediaNamesMax } from '../../shared/commands/media.ts'
import type { MainClient } from '../../shared/commands/registry.ts'

export interface AccessNotes {
  /** The medium is being fetched, which was last noted at `lastAccessTs`. */
  note(medium: MediaName & { readonly last_access_ts: number }): void
  close(): Promise<void>
}

const everyMs = 60_000
/** Notes on one medium are this far apart. */
const apartMs = 3_600_000

export function createAccessNotes(deps: {
  readonly main: Pick<MainClient, 'noteMediaAccess'>
  readonly clock: Clock
  readonly onError: (error: unknown) => void
}): AccessNotes {
  const { main, clock, onError } = deps
  const noted = new Map<string, MediaName>()
  let cancel: (() => void) | undefined

  async function tell(): Promise<void> {
    cancel?.()
    cancel = undefined
    const media = [...noted.values()]
    noted.clear()
    if (media.length > 0) await main.noteMediaAccess({ media }).catch(onError)
  }

  return {
    note({ origin, media_id, last_access_ts }) {
      if (last_access_ts > clock.now() - apartMs) return
      noted.set(`${origin}/${media_id}`, { origin, media_id })
      if (noted.size >= mediaNamesMax) void tell()
      else cancel ??= clock.after(everyMs, () => void tell())
    },
    close: tell,
  }
}
