/** What a client was told on one connection: of each room how far, and under which config. It never changes: telling more
 *  makes another one, and its name comes from what it holds. So a client that repeats a request, or cancels it and asks for
 *  something else, goes on from what it knew, and answers that tell nothing of new rooms share one. */
import { createHash } from 'node:crypto'
import * as v from 'valibot'
import { type RequiredState, required } from './required-state.ts'

export interface SentRoom {
  readonly required: RequiredState
  /** Of the timeline that the client has, as far as it is known to have no gap. */
  readonly limit: number
  /** Position in stream events up to which the room was told; undefined: as far as the connection's position. */
  readonly events: number | undefined
  /** The same for receipts; 'never': none were. */
  readonly receipts: number | 'live' | 'never'
  /** The room's account data was told, and has not changed unseen since. */
  readonly accountData: boolean
  readonly dm: boolean
  /** Who types, or the unread counts, changed while the room was out of sight. */
  readonly staleTyping: boolean
  readonly staleCounts: boolean
  /** Whose member events were sent because of what they wrote. */
  readonly members: readonly string[]
}

/** What is not told room by room, and whether it was told up to the connection's position. */
export interface SentApart {
  /** Account data that is not of a room. */
  readonly globalAccountData: boolean
  readonly threadSubscriptions: boolean
}

export interface ConnectionState extends SentApart {
  readonly id: string
  readonly rooms: ReadonlyMap<number, SentRoom>
  /** The JSON under which it is stored. */
  readonly text: string
}

/** Of one room, and of all: what is beyond is sent once more. */
export const membersPerRoom = 60
const membersMax = 2_000

const flagDm = 1
const flagAccountData = 2
const flagStaleCounts = 4
const flagStaleTyping = 8
const flagReceipts = 16

const natural = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const Selector = v.strictObject({ type: v.optional(v.string()), state_key: v.optional(v.string()) })
const Alternatives = v.array(
  v.strictObject({ include: v.array(Selector), exclude: v.array(Selector), lazy: v.boolean() }),
)
/** Rooms with the same config and flags are one group; their numbers are written as differences, to base 36. */
const Group = v.tuple([natural, natural, natural, v.string()])
/** Room, events (-1: live), receipts (-1: as the flag says), indices of members. */
const Further = v.tuple([natural, v.number(), v.number(), v.array(natural)])
const Stored = v.strictObject({
  v: v.literal(1),
  g: v.boolean(),
  /** Thread subscriptions; left out where they were not told. */
  t: v.optional(v.literal(true)),
  r: v.array(Alternatives),
  u: v.array(v.string()),
  s: v.array(Group),
  x: v.array(Further),
})

/** Of a connection that has told nothing yet. */
export const nothingSent: ConnectionState = connectionState(new Map(), {
  globalAccountData: false,
  threadSubscriptions: false,
})

export function connectionState(rooms: ReadonlyMap<number, SentRoom>, apart: SentApart): ConnectionState {
  const text = encode(rooms, apart)
  const id = createHash('sha256').update(text).digest('base64url').slice(0, 16)
  const { globalAccountData, threadSubscriptions } = apart
  return { id, rooms, globalAccountData, threadSubscriptions, text }
}

function encode(rooms: ReadonlyMap<number, SentRoom>, apart: SentApart): string {
  const configs = new Map<string, number>()
  const users = new Map<string, number>()
  const groups = new Map<string, { head: [number, number, number]; nids: number[] }>()
  const further: [number, number, number, number[]][] = []
  let room = membersMax
  for (const nid of [...rooms.keys()].sort((a, b) => a - b)) {
    const sent = rooms.get(nid)
    if (!sent) continue
    const head: [number, number, number] = [indexIn(configs, sent.required.text), sent.limit, flagsOf(sent)]
    const key = head.join(' ')
    const group = groups.get(key)
    if (group) group.nids.push(nid)
    else groups.set(key, { head, nids: [nid] })
    const members = room > 0 ? sent.members.slice(-Math.min(membersPerRoom, room)) : []
    room -= members.length
    const receipts = typeof sent.receipts === 'number' ? sent.receipts : -1
    if (sent.events !== undefined || receipts >= 0 || members.length > 0) {
      further.push([nid, sent.events ?? -1, receipts, members.map((user) => indexIn(users, user))])
    }
  }
  const stored = {
    v: 1,
    g: apart.globalAccountData,
    ...(apart.threadSubscriptions ? { t: true } : {}),
    r: [...configs.keys()].map((text): unknown => JSON.parse(text)),
    u: [...users.keys()],
    s: [...groups.values()].map(({ head, nids }) => [...head, differences(nids)]),
    x: further,
  }
  return JSON.stringify(stored)
}

function flagsOf(sent: SentRoom): number {
  return (
    (sent.dm ? flagDm : 0) |
    (sent.accountData ? flagAccountData : 0) |
    (sent.staleCounts ? flagStaleCounts : 0) |
    (sent.staleTyping ? flagStaleTyping : 0) |
    (sent.receipts === 'live' ? flagReceipts : 0)
  )
}

function indexIn(indices: Map<string, number>, key: string): number {
  const known = indices.get(key)
  if (known !== undefined) return known
  indices.set(key, indices.size)
  return indices.size - 1
}

function differences(nids: readonly number[]): string {
  let last = 0
  const parts = nids.map((nid) => {
    const part = (nid - last).toString(36)
    last = nid
    return part
  })
  return parts.join(' ')
}

/** Undefined for what is no state of this version: then the client begins anew. */
export function parseConnectionState(text: string): ConnectionState | undefined {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    return undefined
  }
  const parsed = v.safeParse(Stored, json)
  if (!parsed.success) return undefined
  const { g, t, r, u, s, x } = parsed.output
  const configs = r.map(required)
  const rooms = new Map<number, SentRoom>()
  for (const [config, limit, flags, nids] of s) {
    const asked = configs[config]
    if (!asked) return undefined
    let nid = 0
    for (const part of nids.split(' ')) {
      nid += Number.parseInt(part, 36)
      if (!Number.isSafeInteger(nid)) return undefined
      rooms.set(nid, {
        required: asked,
        limit,
        events: undefined,
        receipts: flags & flagReceipts ? 'live' : 'never',
        accountData: (flags & flagAccountData) !== 0,
        dm: (flags & flagDm) !== 0,
        staleTyping: (flags & flagStaleTyping) !== 0,
        staleCounts: (flags & flagStaleCounts) !== 0,
        members: [],
      })
    }
  }
  for (const [nid, events, receipts, members] of x) {
    const sent = rooms.get(nid)
    if (!sent) return undefined
    rooms.set(nid, {
      ...sent,
      events: events < 0 ? undefined : events,
      receipts: receipts < 0 ? sent.receipts : receipts,
      members: members.flatMap((index) => u[index] ?? []),
    })
  }
  const id = createHash('sha256').update(text).digest('base64url').slice(0, 16)
  return { id, rooms, globalAccountData: g, threadSubscriptions: t === true, text }
}
