/** Users who talk without a pause while processes are replaced under them: every request has to succeed, and every message
 *  that was acknowledged has to be there in the end. */
import { setTimeout as sleep } from 'node:timers/promises'

export interface Failure {
  readonly what: string
  readonly why: string
}

export interface LoadResult {
  readonly requests: number
  readonly failures: readonly Failure[]
  /** Acknowledged messages that a member's syncs did not show exactly once. */
  readonly lost: readonly string[]
}

export interface Load {
  readonly requests: number
  /** Ends it, and reads what has to be there. */
  stop(): Promise<LoadResult>
}

interface Session {
  readonly user_id: string
  readonly access_token: string
}

const pauseMs = 20
const longPollMs = 3_000
/** No gap in a timeline, however long a sync had to wait. */
const filter = JSON.stringify({ room: { timeline: { limit: 1000 } } })
const requestTimeoutMs = 30_000

/** `pairs` rooms of two users each: one sends, the other one syncs. */
export async function startLoad(
  baseUrl: string,
  register: (name: string) => Promise<Session>,
  pairs: number,
): Promise<Load> {
  let requests = 0
  let stopping = false
  const failures: Failure[] = []

  async function request<T>(method: string, path: string, token: string, body?: unknown): Promise<T | undefined> {
    requests++
    const what = `${method} ${path.split('?')[0]}`
    try {
      const response = await fetch(baseUrl + path, {
        method,
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(requestTimeoutMs),
      })
      const text = await response.text()
      if (response.ok) return JSON.parse(text) as T
      failures.push({ what, why: `${response.status} ${text.slice(0, 200)}` })
    } catch (error) {
      const { message, cause } = error as Error
      failures.push({ what, why: `${message}: ${cause instanceof Error ? cause.message : ''}` })
    }
    return undefined
  }

  async function pair(number: number): Promise<() => Promise<readonly string[]>> {
    const [sender, reader] = await Promise.all([register(`sender${number}`), register(`reader${number}`)])
    const room = await request<{ room_id: string }>('POST', '/_matrix/client/v3/createRoom', sender.access_token, {
      preset: 'private_chat',
      invite: [reader.user_id],
    })
    if (!room) throw new Error(`no room: ${JSON.stringify(failures)}`)
    const roomPath = `/_matrix/client/v3/rooms/${encodeURIComponent(room.room_id)}`
    await request('POST', `${roomPath}/join`, reader.access_token, {})
    const sent = new Set<string>()
    const seen = new Map<string, number>()
    let since: string | undefined

    async function sync(timeoutMs: number): Promise<void> {
      const query = new URLSearchParams({
        filter,
        timeout: String(timeoutMs),
        ...(since === undefined ? {} : { since }),
      })
      interface Sync {
        readonly next_batch: string
        readonly rooms?: {
          readonly join?: Record<string, { timeline: { events: { event_id: string; type: string }[] } }>
        }
      }
      const answer = await request<Sync>('GET', `/_matrix/client/v3/sync?${query}`, reader.access_token)
      if (!answer) {
        await sleep(pauseMs)
        return
      }
      since = answer.next_batch
      for (const event of answer.rooms?.join?.[room?.room_id ?? '']?.timeline.events ?? []) {
        if (event.type === 'm.room.message') seen.set(event.event_id, (seen.get(event.event_id) ?? 0) + 1)
      }
    }
    await sync(0)

    const sending = (async () => {
      for (let i = 0; !stopping; i++) {
        const answer = await request<{ event_id: string }>(
          'PUT',
          `${roomPath}/send/m.room.message/${number}-${i}`,
          sender.access_token,
          { msgtype: 'm.text', body: `message ${i}` },
        )
        if (answer) sent.add(answer.event_id)
        await sleep(pauseMs)
      }
    })()
    const reading = (async () => {
      while (!stopping) await sync(longPollMs)
    })()

    return async () => {
      await Promise.all([sending, reading])
      const unseen = () => [...sent].filter((id) => seen.get(id) !== 1)
      for (let i = 0; i < 10 && unseen().length > 0; i++) await sync(500)
      return unseen().map((id) => `${id} was seen ${seen.get(id) ?? 0} times`)
    }
  }

  const ends = await Promise.all(Array.from({ length: pairs }, (_, i) => pair(i)))
  return {
    get requests() {
      return requests
    },
    async stop() {
      stopping = true
      const lost = (await Promise.all(ends.map((end) => end()))).flat()
      return { requests, failures, lost }
    },
  }
}
