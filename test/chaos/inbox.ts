/** A device that encrypts, as far as the server sees one: it reads its inbox, by one kind of sync or the other, now and then
 *  loses an answer before it has kept it, and uploads one-time keys when few are left. */
import type { Random } from '../support/random.ts'
import type { Insist, Person } from './requests.ts'

export interface Device extends Person {
  readonly device_id: string
}

interface Answer {
  readonly events: readonly { readonly sender: string; readonly content: { readonly n: number } }[]
  readonly keys: Record<string, number> | undefined
}

export const algorithm = 'signed_curve25519'
const v3 = '/_matrix/client/v3'
const sliding = '/_matrix/client/unstable/org.matrix.simplified_msc3575/sync'
/** One answer in so many is lost on its way, or with the client that had it. */
const lostOneIn = 20
const keysLow = 150
const keysAtOnce = 200

/** What a key's name says its content is. */
export const keyNamed = (device_id: string, key_id: string) => `${device_id} ${key_id}`

/** One kind of sync: asks from where the device stands, and moves there when the answer is kept. */
interface Reading {
  ask(timeoutMs: number): Promise<Answer & { keep(): void }>
}

/** GET /sync: a token acknowledges all that came with it. */
function bySync(token: string, insist: Insist): Reading {
  let since: string | undefined
  return {
    async ask(timeoutMs) {
      const query = new URLSearchParams({
        timeout: String(timeoutMs),
        set_presence: 'offline',
        ...(since && { since }),
      })
      const answer = (await insist('GET', `${v3}/sync?${query}`, token)) as unknown as {
        next_batch: string
        to_device?: Pick<Answer, 'events'>
        device_one_time_keys_count?: Record<string, number>
      }
      return {
        events: answer.to_device?.events ?? [],
        keys: answer.device_one_time_keys_count,
        keep() {
          since = answer.next_batch
        },
      }
    },
  }
}

/** Sliding sync: the inbox has a place of its own, which outlives the connection's. */
function bySlidingSync(token: string, insist: Insist, onUnknown: () => void): Reading {
  let pos: string | undefined
  let since: string | undefined
  return {
    async ask(timeoutMs) {
      for (;;) {
        const query = new URLSearchParams({ timeout: String(timeoutMs), set_presence: 'offline', ...(pos && { pos }) })
        const extensions = { to_device: { enabled: true, ...(since && { since }) }, e2ee: { enabled: true } }
        const told = await insist(
          'POST',
          `${sliding}?${query}`,
          token,
          { conn_id: 'inbox', extensions },
          {
            orErrcode: 'M_UNKNOWN_POS',
          },
        )
        if (told.errcode !== undefined) {
          onUnknown()
          pos = undefined
          continue
        }
        const answer = told as unknown as {
          pos: string
          extensions: {
            to_device?: Pick<Answer, 'events'> & { next_batch: string }
            e2ee?: { device_one_time_keys_count?: Record<string, number> }
          }
        }
        const { to_device, e2ee } = answer.extensions
        return {
          events: to_device?.events ?? [],
          keys: e2ee?.device_one_time_keys_count,
          keep() {
            pos = answer.pos
            since = to_device?.next_batch ?? since
          },
        }
      }
    },
  }
}

export class Inbox {
  readonly device: Device
  /** By sender, what came, in the order in which it came. */
  readonly received = new Map<string, number[]>()
  /** Keys with numbers below it are uploaded. */
  uploaded = 0
  /** As the device was last told. */
  keysLeft = 0
  /** How often its place in a connection was not known any more. */
  unknown = 0
  lost = 0
  readonly #insist: Insist
  readonly #random: Random
  readonly #reading: Reading
  #running = true
  #uploading: Promise<void> | undefined

  constructor(device: Device, by: 'sync' | 'sliding sync', insist: Insist, random: Random) {
    this.device = device
    this.#insist = insist
    this.#random = random
    this.#reading =
      by === 'sync'
        ? bySync(device.access_token, insist)
        : bySlidingSync(device.access_token, insist, () => {
            this.unknown++
          })
  }

  /** Uploads the first keys. */
  async start(): Promise<void> {
    await this.#upload()
  }

  async follow(): Promise<void> {
    while (this.#running) await this.#once(2_000, lostOneIn)
  }

  stop(): void {
    this.#running = false
  }

  /** Until an answer has nothing more, and what came is acknowledged by that. */
  async catchUp(): Promise<void> {
    await this.#uploading
    while (await this.#once(0));
  }

  async #once(timeoutMs: number, lostOneIn = 0): Promise<boolean> {
    const { events, keys, keep } = await this.#reading.ask(timeoutMs)
    if (lostOneIn > 0 && this.#random.below(lostOneIn) === 0) {
      this.lost++
      return true
    }
    keep()
    for (const { sender, content } of events) {
      const known = this.received.get(sender)
      if (known) known.push(content.n)
      else this.received.set(sender, [content.n])
    }
    if (keys) this.keysLeft = keys[algorithm] ?? 0
    if (this.#running && this.keysLeft < keysLow) {
      this.#uploading ??= this.#upload().finally(() => {
        this.#uploading = undefined
      })
    }
    return events.length > 0
  }

  async #upload(): Promise<void> {
    const { device_id, access_token } = this.device
    const one_time_keys = Object.fromEntries(
      Array.from({ length: keysAtOnce }, (_, i) => `K${this.uploaded + i}`).map((id) => [
        `${algorithm}:${id}`,
        { key: keyNamed(device_id, id), signatures: {} },
      ]),
    )
    // Whoever sends the same keys again makes no more of them, also where some were given out meanwhile.
    const answer = await this.#insist('POST', `${v3}/keys/upload`, access_token, { one_time_keys }, { onBroken() {} })
    this.uploaded += keysAtOnce
    this.keysLeft = (answer.one_time_key_counts as Record<string, number>)[algorithm] ?? 0
  }
}
