/** Password hashes: bcrypt, on the thread pool, a few at a time. Hashes that other servers made with plain bcrypt verify too. */
import { createHash } from 'node:crypto'
import { availableParallelism } from 'node:os'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'

/** bcrypt reads 72 bytes and stops at U+0000. Passwords that reach so far are hashed before, so that all of them counts. */
const bcryptBytesMax = 72
const prehashed = 'sha256:'
/** Beyond it a password is an attack on the hash. */
const charactersMax = 512
/** A hash takes a quarter of a second; who would wait for this many others is told to come back. */
const waitingMax = 100

/** Seven megabytes that a server needs when somebody logs in, and not before. */
const hash = async (text: string, options: { readonly cost: number }): Promise<string> =>
  (await import('@node-rs/bcrypt')).hash(text, options)
const verify = async (text: string, stored: string): Promise<boolean> =>
  (await import('@node-rs/bcrypt')).verify(text, stored)

export interface Passwords {
  hash(password: string): Promise<string>
  /** Takes as long where there is no hash to compare with, so that time does not tell who exists. */
  matches(password: string, stored: string | null | undefined): Promise<boolean>
}

export function createPasswords(options: { readonly rounds: number }): Passwords {
  const run = withAtMost(Math.max(1, Math.min(4, availableParallelism())))
  let decoy: Promise<string> | undefined
  return {
    async hash(password) {
      const text = normalised(password)
      if (text === undefined) {
        throw new MatrixError('M_INVALID_PARAM', `A password has ${charactersMax} characters at most`)
      }
      const cost = options.rounds
      return needsPrehash(text)
        ? prehashed + (await run(() => hash(prehash(text), { cost })))
        : run(() => hash(text, { cost }))
    },
    async matches(password, stored) {
      const text = normalised(password)
      if (text === undefined) return false
      if (!stored) {
        decoy ??= hash('decoy', { cost: options.rounds })
        const nobody = await decoy
        await run(() => verify(text, nobody))
        return false
      }
      return stored.startsWith(prehashed)
        ? run(() => verify(prehash(text), stored.slice(prehashed.length)))
        : run(() => verify(text, stored))
    },
  }
}

/** One password typed on two keyboards may be two sequences of code points. */
function normalised(password: string): string | undefined {
  const text = password.normalize('NFKC')
  return text.length > charactersMax ? undefined : text
}

function needsPrehash(text: string): boolean {
  return text.includes('\0') || Buffer.byteLength(text) >= bcryptBytesMax
}

function prehash(text: string): string {
  return createHash('sha256').update(text).digest('base64')
}

function withAtMost(running: number): <T>(task: () => Promise<T>) => Promise<T> {
  let free = running
  const waiting: (() => void)[] = []
  return async (task) => {
    if (free > 0) free--
    else {
      if (waiting.length >= waitingMax) {
        throw new MatrixError('M_LIMIT_EXCEEDED', 'Too many logins at once', { extra: { retry_after_ms: 5_000 } })
      }
      await new Promise<void>((resolve) => waiting.push(resolve))
    }
    try {
      return await task()
    } finally {
      const next = waiting.shift()
      if (next) next()
      else free++
    }
  }
}
