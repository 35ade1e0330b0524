/** The command that is being carried out, wherever in main its work is: what makes sure that it has one effect however often
 *  it arrives. In one process nobody repeats a call, so there is none and nothing is recorded. */
import { AsyncLocalStorage } from 'node:async_hooks'
import { createCipheriv, createDecipheriv, hash, hkdfSync, randomBytes } from 'node:crypto'
import type { Clock } from '../../shared/clock.ts'
import type { Repetition } from '../../shared/commands/define.ts'
import type { MainSql } from '../../shared/storage/sql.ts'
import { unavailable } from './outage-guard.ts'
import type { Writes } from './persist/writes.ts'

export interface CommandCall {
  readonly name: string
  /** Chosen by the sender; the same each time it sends this command again. */
  readonly key: string
  readonly repetition: Repetition
  /** It was sent before: somebody may have carried it out. */
  readonly isRetry: boolean
  /** When the sender stops waiting. */
  readonly deadlineTs: number
  /** Newest first; they open what is sealed, and the first seals. */
  readonly secrets: readonly string[]
}

export const commandCalls = new AsyncLocalStorage<CommandCall>()

/** To be written in the commit of a command's effect, with the answer that it will give: a repetition is then answered from
 *  there. Empty outside of calls. A command that commits several times records with the last commit, and the ones before
 *  have to be such that they can be made again. */
export function answered(response: object): Writes {
  const call = commandCalls.getStore()
  if (!call || call.repetition === 'harmless') return {}
  const text = JSON.stringify(response)
  return { idempotency: { ...placeOf(call), response: call.repetition === 'sealed' ? seal(call, text) : text } }
}

/** Whether the command under way was sent before, so that what is remembered in memory does not settle whether it was
 *  carried out. */
export function isRetriedCall(): boolean {
  return commandCalls.getStore()?.isRetry === true
}

/** Throws M_UNAVAILABLE where nobody waits for the command under way any more. */
export function checkDeadline(clock: Clock): void {
  const call = commandCalls.getStore()
  if (call && call.deadlineTs <= clock.now()) throw unavailable()
}

/** The answer that was recorded; undefined where there is none. */
export async function recordedAnswer(sql: MainSql, call: CommandCall): Promise<unknown> {
  const { scope, key } = placeOf(call)
  const [row] = await sql<{ response: string }[]>`
    select response from idempotency where scope = ${scope} and key = ${key}`
  if (!row) return undefined
  return JSON.parse(call.repetition === 'sealed' ? unseal(call, row.response) : row.response)
}

/** A sealed answer is opened by the key, so the key itself is not in the table. */
function placeOf(call: CommandCall): { scope: string; key: string } {
  return { scope: `command ${call.name}`, key: hash('sha256', call.key, 'base64url') }
}

const algorithm = 'aes-256-gcm'
const ivBytes = 12
const tagBytes = 16

/** Who reads the table, or a backup of it, learns no tokens: it takes the secret of commands and the sender's key to read
 *  them. */
function sealingKey(secret: string, key: string): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, key, 'ganglion recorded answer', 32))
}

function seal({ secrets, key }: CommandCall, text: string): string {
  const [secret] = secrets
  if (secret === undefined) throw new Error('an answer can be sealed only where there is a secret')
  const iv = randomBytes(ivBytes)
  const cipher = createCipheriv(algorithm, sealingKey(secret, key), iv)
  return Buffer.concat([iv, cipher.update(text, 'utf8'), cipher.final(), cipher.getAuthTag()]).toString('base64')
}

/** Throws where none of the secrets opens it. */
function unseal({ secrets, key }: CommandCall, sealed: string): string {
  const bytes = Buffer.from(sealed, 'base64')
  const iv = bytes.subarray(0, ivBytes)
  const tag = bytes.subarray(bytes.length - tagBytes)
  const text = bytes.subarray(ivBytes, bytes.length - tagBytes)
  let failure: unknown
  for (const secret of secrets) {
    try {
      const decipher = createDecipheriv(algorithm, sealingKey(secret, key), iv, { authTagLength: tagBytes })
      decipher.setAuthTag(tag)
      return Buffer.concat([decipher.update(text), decipher.final()]).toString('utf8')
    } catch (error) {
      failure = error
    }
  }
  throw new Error('a recorded answer was sealed with another secret', { cause: failure })
}
