/** Delayed events, MSC4140. What becomes of one is decided by the commit that says so: it fails where something else has
 *  become of it meanwhile, so an event is sent once, whoever sends it and however often. */
import { randomBytes } from 'node:crypto'
import type { delayedEventCommands } from '../../../shared/commands/delayed-events.ts'
import type { MainClient } from '../../../shared/commands/registry.ts'
import { shardOf } from '../../../shared/commands/shards.ts'
import type { Config } from '../../../shared/config/schema.ts'
import { rulesOf } from '../../../shared/core/room-versions.ts'
import { buildEvent } from '../../../shared/matrix/event-format.ts'
import type { UserId } from '../../../shared/matrix/ids.ts'
import { lockedError, MatrixError, suspendedError } from '../../../shared/matrix/matrix-error.ts'
import { parseJsonObject } from '../../../shared/matrix/parse-json.ts'
import type { SigningKey } from '../../../shared/matrix/signatures.ts'
import { type DelayedEvent, delayedEventById } from '../../../shared/storage/delayed-events.ts'
import { pgText } from '../../../shared/storage/sql.ts'
import type { DelayedSends } from '../background/delayed-sends.ts'
import { answered } from '../command-call.ts'
import type { KeyedQueue } from '../keyed-queue.ts'
import { isRefused } from '../persist/commit-connection.ts'
import { joinWrites, type Writes } from '../persist/writes.ts'
import type { RoomCommandDeps } from './rooms/room-command-deps.ts'
import { sendInRoom } from './rooms/send-event.ts'

/** Of a user, of those that were sent or cancelled. */
const finalisedMax = 100

export interface DelayedEventDeps {
  readonly rooms: RoomCommandDeps
  readonly config: Pick<Config, 'delayed_events'>
  readonly signingKey: SigningKey
  readonly sends: Pick<DelayedSends, 'dueAt'>
  readonly queue: KeyedQueue
}

type Request = Parameters<MainClient['scheduleDelayedEvent']>[0]
type UpdateRequest = Parameters<MainClient['updateDelayedEvent']>[0]
type SendRequest = Parameters<MainClient['sendDelayedEvent']>[0]

export function delayedEventHandlers(deps: DelayedEventDeps): Pick<MainClient, keyof typeof delayedEventCommands> {
  const { rooms, sends, queue } = deps
  const { sql, committer, clock, transactions } = rooms

  async function schedule(request: Request, record: (response: { delay_id: string }) => Writes) {
    const { user_id, room_id, delay_ms } = request
    const content = await checkedContent(deps, request)
    return queue.run(`delayed events of ${user_id}`, async () => {
      const finalised = await checkCount(deps, user_id)
      const delay_id = randomBytes(24).toString('base64url')
      const now = clock.now()
      const added: Writes = {
        also: (tx) => [
          tx`insert into delayed_events (delay_id, shard, user_id, device_id, room_id, type, state_key, content,
              delay_ms, scheduled_ts, send_ts)
            values (${delay_id}, ${shardOf(user_id)}, ${user_id},
              ${request.device_id === undefined ? null : pgText(request.device_id)}, ${room_id},
              ${pgText(request.type)}, ${request.state_key === undefined ? null : pgText(request.state_key)},
              ${content}, ${delay_ms}, ${now}, ${now + delay_ms})`,
          ...(finalised < finalisedMax
            ? []
            : [
                tx`delete from delayed_events where delay_id in (
                  select delay_id from delayed_events where user_id = ${user_id} and finalised_ts is not null
                  order by finalised_ts desc offset ${finalisedMax})`,
              ]),
        ],
      }
      await committer.commit(joinWrites(added, record({ delay_id })))
      sends.dueAt(now + delay_ms)
      return { delay_id }
    })
  }

  return {
    scheduleDelayedEvent(request) {
      if (request.txn_id === undefined) return schedule(request, answered)
      const key = `delay\n${request.type}\n${request.room_id}\n${request.txn_id}`
      return transactions.once(request, key, (record) => schedule(request, record))
    },

    // One thing at a time with each: a commit that fails holds up the whole room.
    updateDelayedEvent: (request) => queue.run(`delayed event ${request.delay_id}`, () => update(request)),
    sendDelayedEvent: (request) => queue.run(`delayed event ${request.delay_id}`, () => send(request)),
  }

  async function update({ delay_id, user_id, action }: UpdateRequest) {
    const event = await delayedEventById(sql, delay_id)
    if (event?.user_id !== user_id) throw unknown()
    if (event.finalised_ts !== null) return settled(event, action)
    const now = clock.now()
    try {
      await committer.commit({
        also: (tx) => [
          action === 'cancel'
            ? tx`select finalise_delayed_event(${delay_id}, ${now}, null, null, null)`
            : tx`select restart_delayed_event(${delay_id}, ${now})`,
        ],
      })
    } catch (error) {
      if (!isNotScheduled(error)) throw error
      return settled(await delayedEventById(sql, delay_id), action)
    }
    if (action === 'restart') sends.dueAt(now + event.delay_ms)
    return {}
  }

  async function send({ delay_id, room_id, due_ts }: SendRequest) {
    const event = await delayedEventById(sql, delay_id)
    if (due_ts !== undefined && (!event || event.finalised_ts !== null || event.send_ts > due_ts)) return {}
    if (event?.room_id !== room_id) throw unknown()
    if (event.finalised_ts !== null) return settled(event, 'send')
    const now = clock.now()
    try {
      await sendNow(event, now, due_ts)
    } catch (error) {
      if (isNotScheduled(error))
        return due_ts === undefined ? settled(await delayedEventById(sql, delay_id), 'send') : {}
      if (due_ts === undefined || !isRefusal(error)) throw error
      const refusal = JSON.stringify({ errcode: error.errcode, error: error.message })
      await committer
        .commit({
          also: (tx) => [tx`select finalise_delayed_event(${delay_id}, ${now}, ${due_ts}, null, ${pgText(refusal)})`],
        })
        .catch((failed: unknown) => {
          if (!isNotScheduled(failed)) throw failed
        })
    }
    return {}
  }

  async function sendNow(event: DelayedEvent, now: number, due_ts: number | undefined): Promise<void> {
    const { delay_id, user_id, room_id, type, state_key } = event
    const [sender] = await sql<{ kind: string; suspended: boolean; locked: boolean }[]>`
      select kind, suspended, locked from users where user_id = ${user_id} and not deactivated`
    if (!sender) throw new MatrixError('M_USER_DEACTIVATED', 'This account is deactivated')
    if (sender.locked) throw lockedError()
    if (sender.suspended && (type !== 'm.room.redaction' || state_key !== null)) throw suspendedError()
    await sendInRoom(
      rooms,
      {
        room_id,
        user_id,
        delay_id,
        guest: sender.kind === 'guest',
        suspended: sender.suspended,
        type,
        ...(state_key === null ? {} : { state_key }),
        content: parseJsonObject(event.content),
      },
      ({ event_id, changed }) => ({
        also: (tx) => [
          tx`select finalise_delayed_event(${delay_id}, ${now}, ${due_ts ?? null}, ${event_id}, null)`,
          ...(changed ? [tx`update events set delay_id = ${delay_id} where event_id = ${event_id}`] : []),
        ],
      }),
    )
  }
}

/** Canonical JSON of what the event will hold; throws what its format alone stands against. */
async function checkedContent({ rooms, signingKey }: DelayedEventDeps, request: Request): Promise<string> {
  const { room_id, user_id, type, state_key, content } = request
  const [room] = await rooms.sql<{ room_version: string }[]>`select room_version from rooms where room_id = ${room_id}`
  const rules = room && rulesOf(room.room_version)
  if (!rules) throw new MatrixError('M_NOT_FOUND', 'This server does not know the room')
  if (type === 'm.room.create') {
    throw new MatrixError('M_BAD_STATE', 'A room is created once, and its create event does not change')
  }
  const draft = { room_id, type, state_key, sender: user_id, content, depth: 1, origin_server_ts: rooms.clock.now() }
  const ends = { prev_events: [], auth_events: [], redacts: undefined }
  return buildEvent(rules, { ...draft, ...ends }, rooms.serverName, signingKey).content
}

/** How many of the user's were sent or cancelled. Throws M_LIMIT_EXCEEDED where no more may be scheduled. */
async function checkCount({ rooms, config }: DelayedEventDeps, user_id: UserId): Promise<number> {
  const max = config.delayed_events.max_per_user
  const [held] = await rooms.sql<{ scheduled: number; finalised: number; next_ts: number | null }[]>`
    select count(*) filter (where finalised_ts is null) as scheduled,
      count(*) filter (where finalised_ts is not null) as finalised,
      min(send_ts) filter (where finalised_ts is null) as next_ts
    from delayed_events where user_id = ${user_id}`
  if ((held?.scheduled ?? 0) >= max) {
    const untilNextMs = Math.max(1_000, (held?.next_ts ?? 0) - rooms.clock.now())
    throw new MatrixError('M_LIMIT_EXCEEDED', `A user may have ${max} delayed events scheduled at a time`, {
      extra: { retry_after_ms: untilNextMs },
    })
  }
  return held?.finalised ?? 0
}

/** The answer where something has become of it: success if that is what was wanted. */
function settled(event: DelayedEvent | undefined, action: 'send' | 'cancel' | 'restart'): Record<never, never> {
  if (!event) throw unknown()
  const became = event.event_id === null ? 'cancel' : 'send'
  if (became === action) return {}
  const word = became === 'send' ? 'sent' : 'cancelled'
  throw new MatrixError('M_UNKNOWN', `The delayed event was ${word} already`, { status: 409 })
}

/** What trying again would not change. */
function isRefusal(error: unknown): error is MatrixError {
  return error instanceof MatrixError && error.errcode !== 'M_UNAVAILABLE' && error.errcode !== 'M_LIMIT_EXCEEDED'
}

function isNotScheduled(error: unknown): boolean {
  return isRefused(error) && error.code === 'GN003'
}

function unknown(): MatrixError {
  return new MatrixError('M_NOT_FOUND', 'There is no such delayed event')
}
