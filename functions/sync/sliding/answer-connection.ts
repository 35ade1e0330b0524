/** One look at a connection: what there is to tell at a position of the streams, and what has been told then. */
import type { Requester } from '../../../shared/auth/requester.ts'
import type { StreamPosition } from '../../../shared/streams/define.ts'
import type { AnswerContext } from '../answer.ts'
import type { SyncDeps } from '../deps.ts'
import type { LiveUser } from '../live-user.ts'
import { roomsWithAccountData } from '../plan.ts'
import { noFilter } from '../sync-filter.ts'
import type { ConnectionState } from './connection-state.ts'
import type { ConnectionOwner } from './connection-store.ts'
import { inScope, type ShownTimeline } from './extensions/extension.ts'
import { readExtensions } from './extensions/registry.ts'
import type { ListFacts } from './list-facts.ts'
import { nextState, type Scopes, type ToldRoom, toldRoom } from './next-state.ts'
import { planRooms, type RoomPart, type Span } from './plan-rooms.ts'
import { encodePosition } from './position.ts'
import { type ReadRoom, readRooms, shownEvents } from './read-rooms.ts'
import type { SlidingRequest } from './request.ts'
import { roomResult } from './room-result.ts'
import { type Selection, selectRooms } from './select-rooms.ts'

/** Rooms read together. */
const roomsAtOnce = 150
/** Members of rooms that are read together, where all members are asked for. */
const membersAtOnce = 4_000

export interface Call {
  /** What the connection had told when the request came. */
  readonly before: ConnectionState
  readonly owner: ConnectionOwner
  readonly requester: Requester
  readonly request: SlidingRequest
  /** The client has all messages to its device up to here; undefined: it may have none. */
  readonly inboxFrom: StreamPosition | undefined
}

export interface Look extends Span {
  readonly deps: SyncDeps
  readonly user: LiveUser
  readonly call: Call
  readonly state: ConnectionState
  readonly selection: Selection
  readonly parts: readonly RoomPart[]
  readonly context: AnswerContext
}

/** Call it when nothing has been awaited since `span.upTo` was read. */
export function look(
  deps: SyncDeps,
  user: LiveUser,
  call: Call,
  at: { readonly state: ConnectionState; readonly facts: ListFacts; readonly span: Span },
): Look {
  const { state, facts, span } = at
  const { since, upTo } = span
  const selection = selectRooms(user, call.request, state, facts, { at: upTo.events, told: since?.events ?? 0 })
  const parts = planRooms(user, selection, state, facts.labels, span)
  const { user_id, device_id } = call.requester
  const context: AnswerContext = {
    sql: deps.sql,
    live: deps.live,
    user,
    viewer: { user_id, device_id },
    device_id,
    filter: noFilter,
    stateKey: 'state_after',
    now: deps.clock.now(),
  }
  return { deps, user, call, state, selection, parts, context, since, upTo }
}

export interface Answer {
  /** Whether a client that waits has to hear of it. */
  readonly news: boolean
  /** What the connection has told with it. */
  readonly next: ConnectionState
  /** Without its end, which names the position. */
  readonly json: string
}

/** Everything is read before anything is sent: so an answer without news can go on waiting. */
export async function wholeAnswer(seen: Look): Promise<Answer> {
  const told = new Told()
  const results: string[] = []
  for (const portion of portions(seen.parts)) results.push(...(await readPortion(seen, portion, told)))
  const { extensions, news, next } = await readRest(seen, told)
  const json = `${opening(seen)}${results.join(',')}},"extensions":{${extensions}}`
  return { news: news || results.length > 0, next, json }
}

/** While some rooms are sent the next are read. */
export async function* streamedAnswer(seen: Look): AsyncIterable<string> {
  const told = new Told()
  let before = opening(seen)
  let reading: Promise<string[]> | undefined
  for (const portion of portions(seen.parts)) {
    const next = readPortion(seen, portion, told)
    // A client that goes away leaves these rooms unread by anybody: then nobody else hears of a failure.
    next.catch(() => {})
    const results = (await reading) ?? []
    if (results.length > 0) {
      yield before + results.join(',')
      before = ','
    }
    reading = next
  }
  const results = (await reading) ?? []
  const { extensions, next } = await readRest(seen, told)
  // The comma is for a room that follows.
  const lead = results.length > 0 ? before : before === ',' ? '' : before
  yield `${lead}${results.join(',')}},"extensions":{${extensions}}`
  yield await ending(seen, next)
}

/** The end of an answer; the connection can go on from it, at any handler. */
export async function ending(
  { deps, call, upTo }: Pick<Look, 'deps' | 'call' | 'upTo'>,
  next: ConnectionState,
): Promise<string> {
  const saving = deps.connections.save(call.owner, next, call.before)
  if (saving) await saving
  return `,"pos":"${encodePosition(call.owner.owner, { state: next.id, at: upTo })}"}`
}

/** What the rooms that were read so far mean for the rest of the answer. */
class Told {
  readonly rooms = new Map<number, ToldRoom>()
  readonly shown = new Map<number, ShownTimeline>()

  add(read: ReadRoom): void {
    const { part, section } = read
    const { room_nid } = part.selected.membership
    this.rooms.set(room_nid, toldRoom(read))
    if (!section) return
    this.shown.set(room_nid, { initial: part.initial, event_ids: shownEvents(read), from: section.start })
  }
}

function opening({ call, selection }: Look): string {
  const { txn_id } = call.request
  const lists = [...selection.counts].map(([name, count]) => `${JSON.stringify(name)}:{"count":${count}}`)
  return `{${txn_id === undefined ? '' : `"txn_id":${JSON.stringify(txn_id)},`}"lists":{${lists.join(',')}},"rooms":{`
}

async function readPortion(seen: Look, parts: readonly RoomPart[], told: Told): Promise<string[]> {
  const { rooms, style } = await readRooms(seen.context, parts, seen.upTo.events)
  const context = { style, since: seen.since?.events, unread: seen.user.unread }
  const results: string[] = []
  for (const read of rooms) {
    told.add(read)
    const result = roomResult(read, context)
    if (result !== undefined) results.push(result)
  }
  return results
}

async function readRest(seen: Look, { rooms, shown }: Told) {
  const { deps, user, call, state, selection, context, since, upTo } = seen
  const { extensions } = call.request
  const answers = await readExtensions(
    { deps, inboxFrom: call.inboxFrom, answer: context, state, selection, shown, since, upTo },
    extensions,
  )
  const scopes: Scopes = {
    accountData: inScope(extensions.account_data),
    receipts: inScope(extensions.receipts),
    typing: inScope(extensions.typing),
    apart: {
      globalAccountData: extensions.account_data?.enabled ?? false,
      threadSubscriptions: extensions['io.element.msc4308.thread_subscriptions']?.enabled ?? false,
    },
  }
  const labelled = since ? roomsWithAccountData(user, since, upTo) : undefined
  const next = nextState(state, { live: deps.live, user, selection, told: rooms, scopes, labelled, since, upTo })
  return {
    extensions: answers.map(({ json }) => json).join(','),
    news: answers.some(({ news }) => news),
    next,
  }
}

/** Rooms that are read together: few where all members of large rooms are asked for. */
function* portions(parts: readonly RoomPart[]): Iterable<RoomPart[]> {
  let portion: RoomPart[] = []
  let members = 0
  for (const part of parts) {
    portion.push(part)
    const { config, membership } = part.selected
    if (config.required.allMembers && (part.initial || part.restated)) members += membership.room?.joinedMembers ?? 0
    if (portion.length < roomsAtOnce && members < membersAtOnce) continue
    yield portion
    portion = []
    members = 0
  }
  if (portion.length > 0) yield portion
}
