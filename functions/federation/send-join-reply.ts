/** What a server gets that joins a room: the state before its join, and all that this rests on.
 *  https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid */
import { RawJson } from '../../shared/http/route.ts'
import { type StoredEvent, wireFromParts } from '../../shared/matrix/event-format.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'
import {
  allServersInRoom,
  authChainOf,
  eventAt,
  heroesOf,
  stateBefore,
  wiresOf,
} from '../../shared/storage/state-answers.ts'
import type { FederationDeps } from './deps.ts'

const memberKey = 'm.room.member\0'

export async function sendJoinReply(
  { sql, config }: FederationDeps,
  { pdu, envelope, content }: StoredEvent,
  options: { readonly omitMembers: boolean; readonly inPair?: boolean },
): Promise<RawJson> {
  const event = await eventAt(sql, pdu.room_id, pdu.event_id)
  if (!event) throw new MatrixError('M_UNAVAILABLE', 'The event is not there yet', { extra: { retry_after_ms: 1_000 } })
  const before = await stateBefore(sql, event)
  const state: number[] = []
  const heroes = options.omitMembers && isNameless(before) ? await heroesOf(sql, event.room_nid, pdu.sender) : []
  for (const [key, nid] of before) {
    if (!options.omitMembers || !key.startsWith(memberKey) || heroes.includes(nid)) state.push(nid)
  }
  const servers = options.omitMembers ? await allServersInRoom(sql, event.room_nid, pdu.sender) : undefined
  // Members that are left out of the state are there where something rests on them, as the join itself does.
  const stated = new Set(state)
  const chain = (await authChainOf(sql, [...state, event.event_nid])).filter(
    (nid) => !stated.has(nid) && nid !== event.event_nid,
  )
  async function* pieces(): AsyncGenerator<string> {
    yield `${options.inPair ? '[200,' : ''}{"origin":${JSON.stringify(config.server_name)},"members_omitted":${options.omitMembers}`
    if (servers) yield `,"servers_in_room":${JSON.stringify(servers)}`
    yield `,"event":${wireFromParts(envelope, content)},"state":[`
    yield* joinedTexts(wiresOf(sql, state))
    yield '],"auth_chain":['
    yield* joinedTexts(wiresOf(sql, chain))
    yield `]}${options.inPair ? ']' : ''}`
  }
  return new RawJson(pieces())
}

/** Such a room is called by its members' names. */
function isNameless(state: ReadonlyMap<string, number>): boolean {
  return !state.has('m.room.name\0') && !state.has('m.room.canonical_alias\0')
}

/** Texts as an array has them between its brackets. */
export async function* joinedTexts(texts: AsyncIterable<string>): AsyncGenerator<string> {
  let first = true
  for await (const text of texts) {
    yield first ? text : `,${text}`
    first = false
  }
}
