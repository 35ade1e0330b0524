/** The answer to a sync, room by room: what one piece needs is read for a few rooms at a time, so an account of any size
 *  takes bounded memory. https://spec.matrix.org/v1.19/client-server-api/#syncing */

import type { DeviceId } from '../../shared/matrix/ids.ts'
import { accountDataOfRooms, isThere, type StoredAccountData } from '../../shared/storage/account-data.ts'
import { pushRulesContent } from '../../shared/storage/push-rules.ts'
import type { StoredReceipt } from '../../shared/storage/receipts.ts'
import type { ReadSql } from '../../shared/storage/sql.ts'
import { type RoomSummary, strippedState } from '../../shared/storage/sync-rooms.ts'
import type { StreamPositions } from '../../shared/streams/registry.ts'
import { encodeSyncToken } from '../../shared/streams/token.ts'
import type { Viewer } from '../../shared/timeline/client-json.ts'
import { bundlesOf } from './bundles.ts'
import { deviceListsJson } from './device-lists.ts'
import { federationFormat } from './federation-format.ts'
import { inboxPart } from './inboxes.ts'
import { addLazyMembers } from './lazy-members.ts'
import type { Live } from './live.ts'
import type { LiveUser, UserRoom } from './live-user.ts'
import { neighbours } from './neighbours.ts'
import type { JoinPart, Plan, TimelinePart } from './plan.ts'
import { presenceJson } from './presence-json.ts'
import { changedAccountData, roomAccountData, roomReceipts } from './room-data.ts'
import {
  accountDataJson,
  type EventStyle,
  receiptsJson,
  stateJson,
  strippedJson,
  summaryJson,
  timelineJson,
  typingJson,
  unreadJson,
} from './room-json.ts'
import { allSoon, type Soon, soon } from './soon.ts'
import { summariesFor } from './summaries.ts'
import type { SyncFilter } from './sync-filter.ts'
import { type RoomSection, readSections, type SectionContext } from './timelines.ts'
import { refreshUnread } from './unread.ts'

/** Rooms read together. */
const roomsAtOnce = 40
/** Where rooms turn out to be small, more are read together: as many as make an answer of this many characters. */
const charactersAtOnce = 512 * 1024
const smallRoomsAtOnce = 150
const largeRoomsAtOnce = 5
const membersAtOnce = 4_000
const empty = { main: { notifications: 0, highlights: 0 }, threads: new Map() }

export interface AnswerContext {
  readonly sql: ReadSql
  readonly live: Live
  readonly user: LiveUser
  readonly viewer: Viewer
  readonly device_id: DeviceId
  readonly filter: SyncFilter
  /** The key under which state goes. */
  readonly stateKey: 'state' | 'state_after' | 'org.matrix.msc4222.state_after'
  readonly now: number
}

/** For an answer of GET /sync. */
export interface SyncContext extends AnswerContext {
  /** Members of the answer that tell what is left of the device's keys, as JSON text. */
  readonly keys: string
  /** They have changed, so there is something to tell whatever else there is. */
  readonly keysMoved: boolean
}

/** What an answer without news says. */
export function emptyAnswer(upTo: StreamPositions, keys: string): string {
  return `{"next_batch":"${encodeSyncToken(upTo)}",${keys}}`
}

/** The answer in pieces; undefined if, all being read, there is nothing to tell. Once the first piece is there it is
 *  certain that there is something. */
export function answer(context: SyncContext, plan: Plan): Soon<AsyncIterable<string> | Iterable<string> | undefined> {
  if (isSimple(plan)) return simpleAnswer(context, plan)
  return fullAnswer(context, plan)
}

/** What happens in rooms that the client has: nearly every answer. */
function isSimple({ since, joins, leaves, invites, knocks }: Plan): boolean {
  if (!since || joins.length > roomsAtOnce || leaves.length + invites.length + knocks.length > 0) return false
  for (const part of joins) if (part.fullState) return false
  return true
}

/** Read at once, so that an answer without news can go on waiting. */
function simpleAnswer(context: SyncContext, plan: Plan): Soon<string[] | undefined> {
  const { joins } = plan
  const rooms: Soon<string[]> = joins.length > 0 ? joinedSections(context, plan, joins) : []
  return soon(allSoon([readHead(context, plan), rooms]), ([head, pieces]) => {
    if (pieces.length > 0) return [`${opening(context, head)},"rooms":{"join":{${pieces.join(',')}}}}`]
    return head.json === '' && !context.keysMoved ? undefined : [`${opening(context, head)}}`]
  })
}

async function fullAnswer(
  context: SyncContext,
  plan: Plan,
): Promise<AsyncIterable<string> | Iterable<string> | undefined> {
  const head = await readHead(context, plan)
  const rooms = roomPieces(context, plan)
  // Short ones too are read at once.
  if (plan.since && plan.joins.length + plan.leaves.length <= roomsAtOnce) {
    const pieces: string[] = []
    for await (const piece of rooms) pieces.push(piece)
    if (pieces.length === 0 && head.json === '' && !context.keysMoved) return undefined
    return wrapped(opening(context, head), pieces)
  }
  return stream(opening(context, head), rooms)
}

/** What is not about rooms. */
interface Head {
  /** Where the client is after this answer. */
  readonly upTo: StreamPositions
  /** Each part with a comma before it. */
  readonly json: string
}

function opening({ keys }: SyncContext, { upTo, json }: Head): string {
  return `${emptyAnswer(upTo, keys).slice(0, -1)}${json}`
}

function wrapped(opened: string, pieces: readonly string[]): string[] {
  return [pieces.length === 0 ? `${opened}}` : `${opened},"rooms":{${pieces.join('')}}}}`]
}

async function* stream(opened: string, rooms: AsyncIterable<string>): AsyncIterable<string> {
  yield opened
  let any = false
  for await (const piece of rooms) {
    yield any ? piece : `,"rooms":{${piece}`
    any = true
  }
  yield any ? '}}}' : '}'
}

function readHead(context: AnswerContext, plan: Plan): Soon<Head> {
  return soon(neighbours(context, plan), (people) =>
    soon(
      allSoon([
        globalAccountData(context, plan),
        presenceJson(context, plan, people),
        deviceListsJson(context, plan, people),
        inboxPart(context, plan),
      ]),
      ([accountData, presence, deviceLists, inbox]) => {
        let json = ''
        if (accountData.length > 0) json += `,"account_data":{"events":[${accountDataJson(accountData)}]}`
        if (presence !== '') json += `,"presence":{"events":[${presence}]}`
        return { upTo: { ...plan.upTo, to_device: inbox.upTo }, json: json + deviceLists + inbox.json }
      },
    ),
  )
}

type GlobalAccountData = readonly Pick<StoredAccountData, 'type' | 'content'>[]

/** The user's data that is not of a room, as far as it changed. */
export function globalAccountData(context: AnswerContext, plan: Pick<Plan, 'since' | 'upTo'>): Soon<GlobalAccountData> {
  const { user, filter } = context
  const { since } = plan
  if (filter.accountData.passesNone || (since && user.accountData <= since.account_data)) return []
  return readGlobalAccountData(context, plan)
}

async function readGlobalAccountData(
  { sql, user, filter }: AnswerContext,
  { since, upTo }: Pick<Plan, 'since' | 'upTo'>,
): Promise<GlobalAccountData> {
  const rows = since
    ? await changedAccountData(sql, user, since, upTo)
    : (await accountDataOfRooms(sql, user.user_id, [0], upTo.account_data)).filter(isThere)
  const byType = new Map<string, string>()
  for (const row of rows) if (row.room_nid === 0) byType.set(row.type, row.content)
  if (!since || byType.has('m.push_rules')) byType.set('m.push_rules', await pushRulesContent(sql, user.user_id))
  const found = [...byType].map(([type, content]) => ({ type, content }))
  return found.filter(({ type }) => filter.accountData.matches({ type, sender: user.user_id }))
}

/** `"join":{…}` and its sisters, in pieces; no piece where there is no room. */
async function* roomPieces(context: AnswerContext, plan: Plan): AsyncIterable<string> {
  let sections = 0
  const inSection = async function* (name: string, parts: AsyncIterable<string>): AsyncIterable<string> {
    let rooms = 0
    for await (const part of parts) {
      yield rooms > 0 ? `,${part}` : `${sections > 0 ? '},' : ''}"${name}":{${part}`
      rooms++
    }
    if (rooms > 0) sections++
  }
  if (plan.joins.length > 0) yield* inSection('join', joinedRooms(context, plan))
  if (plan.invites.length > 0) yield* inSection('invite', strippedRooms(context, plan.invites, 'invite_state'))
  if (plan.knocks.length > 0) yield* inSection('knock', strippedRooms(context, plan.knocks, 'knock_state'))
  if (plan.leaves.length > 0) yield* inSection('leave', leftRooms(context, plan))
}

async function* strippedRooms(
  { sql, user }: AnswerContext,
  rooms: readonly UserRoom[],
  key: string,
): AsyncIterable<string> {
  for (let i = 0; i < rooms.length; i += roomsAtOnce) {
    const some = rooms.slice(i, i + roomsAtOnce)
    const nids = some.map((room) => room.room_nid)
    const state = await strippedState(sql, user.user_id, nids)
    for (const { room_id, room_nid } of some) {
      yield `${JSON.stringify(room_id)}:{"${key}":${strippedJson(state.get(room_nid) ?? [])}}`
    }
  }
}

function sectionContext(context: AnswerContext): SectionContext {
  const { sql, live, user, filter, stateKey } = context
  return { sql, live, user, filter, stateAfter: stateKey !== 'state' }
}

async function* leftRooms(context: AnswerContext, plan: Plan): AsyncIterable<string> {
  for (let i = 0; i < plan.leaves.length; i += roomsAtOnce) {
    const parts: TimelinePart[] = plan.leaves.slice(i, i + roomsAtOnce)
    const sections = await readSections(sectionContext(context), parts)
    if (context.filter.lazyMembers) {
      await addLazyMembers(sectionContext(context), context.device_id, sections, new Map())
    }
    const style = await eventStyle(context, plan, sections)
    for (const section of sections) {
      const { room_id } = section.part.membership
      const state = `"${context.stateKey}":{"events":${stateJson(section.state, style)}}`
      yield `${JSON.stringify(room_id)}:{${state},${timelineJson(section, style)}}`
    }
  }
}

function eventStyle(context: AnswerContext, plan: Plan, sections: readonly RoomSection[]): Soon<EventStyle> {
  const { viewer, now, filter } = context
  return soon(
    allSoon([
      bundlesOf(context, plan.upTo.events, sections),
      filter.federationFormat ? federationFormat(context.sql, sections) : undefined,
    ]),
    ([relations, federation]) => ({ viewer, now, fields: filter.fields, relations, federation }),
  )
}

/** While some rooms are sent the next are read. */
async function* joinedRooms(context: AnswerContext, plan: Plan): AsyncIterable<string> {
  const read = (parts: readonly JoinPart[]) => {
    const sections = joinedSections(context, plan, parts)
    // A client that goes away leaves these rooms unread by anybody: then nobody else hears of a failure.
    if (sections instanceof Promise) sections.catch(() => {})
    return sections
  }
  const size = { rooms: roomsAtOnce }
  let reading: Soon<string[]> | undefined
  for (const chunk of portions(plan.joins, size, !context.filter.lazyMembers)) {
    const next = read(chunk)
    const pieces = (await reading) ?? []
    if (pieces.length > 0) size.rooms = roomsOfSize(pieces)
    for (const piece of pieces) yield piece
    reading = next
  }
  for (const piece of (await reading) ?? []) yield piece
}

/** How many rooms such as these make a portion. */
function roomsOfSize(pieces: readonly string[]): number {
  let characters = 0
  for (const piece of pieces) characters += piece.length
  const rooms = Math.floor((charactersAtOnce * pieces.length) / characters)
  return Math.min(smallRoomsAtOnce, Math.max(largeRoomsAtOnce, rooms))
}

/** Rooms that are read together, `size.rooms` as it is when a portion is asked for: few where all members of large rooms
 *  are sent. */
function* portions(
  parts: readonly JoinPart[],
  size: { readonly rooms: number },
  allMembers: boolean,
): Iterable<JoinPart[]> {
  let portion: JoinPart[] = []
  let members = 0
  for (const part of parts) {
    portion.push(part)
    if (allMembers && part.fullState) members += part.room.joinedMembers
    if (portion.length < size.rooms && members < membersAtOnce) continue
    yield portion
    portion = []
    members = 0
  }
  if (portion.length > 0) yield portion
}

function joinedSections(context: AnswerContext, plan: Plan, parts: readonly JoinPart[]): Soon<string[]> {
  const { sql, user, filter } = context
  const inner = sectionContext(context)
  const read = allSoon([
    soon(readSections(inner, parts), (sections) => {
      const counted = sections.flatMap((section) =>
        section.part.room && membersChanged(section) ? section.part.room : [],
      )
      return soon(summariesFor(sql, user.user_id, counted), (summaries) => ({ sections, summaries }))
    }),
    roomReceipts(context, plan, parts),
    roomAccountData(context, plan, parts),
    refreshUnread(sql, user, parts, plan.upTo.events),
  ])
  return soon(read, ([{ sections, summaries }, receipts, accountData]) => {
    const lazy = filter.lazyMembers ? addLazyMembers(inner, context.device_id, sections, summaries) : undefined
    return soon(
      soon(lazy, () => eventStyle(context, plan, sections)),
      (style) => joinedJson(context, plan, parts, { sections, summaries, receipts, accountData, style }),
    )
  })
}

interface JoinedData {
  readonly sections: readonly RoomSection[]
  readonly summaries: ReadonlyMap<number, RoomSummary>
  readonly receipts: ReadonlyMap<number, StoredReceipt[]>
  readonly accountData: ReadonlyMap<number, StoredAccountData[]>
  readonly style: EventStyle
}

function joinedJson(context: AnswerContext, plan: Plan, parts: readonly JoinPart[], data: JoinedData): string[] {
  const { user, filter, stateKey } = context
  const { summaries, style } = data
  const pieces: string[] = []
  for (const [i, section] of data.sections.entries()) {
    const part = parts[i]
    if (!part) continue
    const { room_nid, room_id } = part.membership
    const own = data.accountData.get(room_nid) ?? []
    const ephemeral = ephemeralJson(context, plan, part, data.receipts.get(room_nid) ?? [])
    if (!part.fullState && isQuiet(section, own, ephemeral)) continue
    const summary = summaries.get(room_nid)
    pieces.push(
      `${JSON.stringify(room_id)}:{${summary ? `${summaryJson(summary)},` : ''}"${stateKey}":{"events":${stateJson(section.state, style)}},${timelineJson(section, style)},"ephemeral":{"events":[${ephemeral}]},"account_data":{"events":[${accountDataJson(own)}]},${unreadJson(user.unread.get(room_nid) ?? empty, filter.threadCounts)}}`,
    )
  }
  return pieces
}

/** True if the room, all being read, has nothing new: counts alone are no news. */
function isQuiet(section: RoomSection, data: readonly unknown[], ephemeral: string): boolean {
  const { events, limited, state } = section
  return events.length === 0 && !limited && state.length === 0 && data.length === 0 && ephemeral === ''
}

function membersChanged(section: RoomSection): boolean {
  if (section.part.fullState || section.limited) return true
  return (
    section.state.some((event) => event.type === 'm.room.member') ||
    section.events.some(({ event }) => event.type === 'm.room.member')
  )
}

function ephemeralJson(
  { live, filter }: AnswerContext,
  { since }: Plan,
  { room, fresh }: JoinPart,
  receipts: readonly StoredReceipt[],
): string {
  const pieces: string[] = []
  const anew = fresh || !since || since.typing < live.startedAt.typing
  if (anew ? room.typists.length > 0 : room.typing > since.typing) {
    if (filter.ephemeral.matches({ type: 'm.typing', room_id: room.room_id })) pieces.push(typingJson(room.typists))
  }
  if (receipts.length > 0 && filter.ephemeral.matches({ type: 'm.receipt', room_id: room.room_id })) {
    pieces.push(receiptsJson(receipts))
  }
  return pieces.join(',')
}
