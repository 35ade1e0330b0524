/** A room that a user of this server joins by way of another server: its state is checked, stored, and becomes a room here.
 *  https://spec.matrix.org/v1.19/server-server-api/#joining-rooms */
import * as v from 'valibot'
import { checkAuth } from '../../../shared/core/auth-rules.ts'
import type { RoomRules } from '../../../shared/core/room-versions.ts'
import { checkPdus } from '../../../shared/federation/check-pdus.ts'
import type { Federation } from '../../../shared/federation/federation.ts'
import type { StoredEvent } from '../../../shared/matrix/event-format.ts'
import type { EventId, RoomId } from '../../../shared/matrix/ids.ts'
import { isJsonObject, type JsonValue } from '../../../shared/matrix/json-value.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import type { Pdu } from '../../../shared/matrix/pdu.ts'
import { domainOf } from '../../../shared/matrix/user-id.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'
import type { Nids } from '../persist/nids.ts'
import { type StateChange, stateMapKey } from '../persist/state-types.ts'
import type { Committer, Writes } from '../persist/writes.ts'
import type { RoomEngine, RoomTask } from '../rooms/engine.ts'
import { outliersOf } from '../rooms/outliers.ts'
import { storeOnState } from '../rooms/receive-forked.ts'
import type { NamedState } from '../rooms/resolve-room.ts'
import { emptyRoom } from '../rooms/room.ts'
import { gapWrites } from './gap-writes.ts'
import type { Handshake } from './handshake.ts'
import { newRoom, outsideRoom, roomAsCreated } from './outside-room.ts'

export interface JoinDeps {
  readonly sql: MainSql
  readonly nids: Nids
  readonly committer: Committer
  readonly engine: RoomEngine
  readonly federation: Pick<Federation, 'keyRing'>
}

const Wires = v.array(v.unknown())
const joinAnswer = v.object({ state: Wires, auth_chain: Wires, event: v.optional(v.unknown()) })

/** Stores the room with the join in it. `more`: joins the commit. No two run side by side for one room. Throws M_UNKNOWN
 *  with status 502 where the answer is not what it should be. */
export async function storeJoin(
  deps: JoinDeps,
  room_id: RoomId,
  { server, rules, event: own, answer }: Handshake,
  more: Writes,
): Promise<void> {
  const { sql, nids, committer, engine } = deps
  const parsed = v.safeParse(joinAnswer, answer)
  if (!parsed.success) throw unsound(`${server} answered the join with something else`)
  const { state: stateWires, auth_chain, event: signed } = parsed.output
  const wires = [...stateWires, ...auth_chain] as JsonValue[]
  const checked = await checkPdus(deps.federation.keyRing, rules, wires)
  const sound = new Map<EventId, StoredEvent>()
  const stateIds: EventId[] = []
  for (const [i, one] of checked.entries()) {
    // One that nobody can check is as good as not there; what rests on it falls with it.
    if (!('event' in one) || one.event.pdu.room_id !== room_id) continue
    sound.set(one.event.pdu.event_id, one.event)
    if (i < stateWires.length) stateIds.push(one.event.pdu.event_id)
  }
  const join = await joinAsSigned(deps, rules, own, signed as JsonValue | undefined)
  const create = createOf(
    stateIds.flatMap((id) => sound.get(id)?.pdu ?? []),
    rules,
  )

  const known = await outsideRoom(sql, room_id)
  const room = { room_nid: known?.room_nid ?? (await nids.next()), room_id, room_version: rules.version }
  const about = { creator: create.sender, created_ts: create.origin_server_ts }
  if (known?.isHeld && known.room_version !== rules.version) {
    throw unsound(`${server} gives the room version ${rules.version}, and it has version ${known.room_version}`)
  }
  // First of all, so that what is stored next is of a room, whatever happens then. What an invitation or a knock has left of
  // the room is as true as whoever sent it; the create event is what the room is.
  if (!known) await committer.commit(newRoom(room, about))
  else if (!known.isHeld) await committer.commit(roomAsCreated(room, about))
  const outliers = await outliersOf(engine.deps, { ...room, rules }, [...sound.values()])
  for (const writes of outliers.writes) await committer.commit(writes)

  const state: NamedState = new Map()
  const changes: StateChange[] = []
  for (const event_id of stateIds) {
    const found = outliers.events.get(event_id)
    const { type, state_key } = found?.pdu ?? {}
    if (!found || found.rejected || type === undefined || state_key === undefined) continue
    const key = stateMapKey(type, state_key)
    if (state.has(key)) throw unsound(`${server} gives the room two events of ${type} ${state_key}`)
    state.set(key, { event_nid: found.event_nid, event_id })
    changes.push({ type, state_key, event_nid: found.event_nid })
  }
  const verdict = checkAuth(rules, join.pdu, {
    get(type, state_key) {
      const named = state.get(stateMapKey(type, state_key))
      const pdu = named && outliers.events.get(named.event_id)?.pdu
      return pdu?.state_key === undefined ? undefined : { ...pdu, state_key: pdu.state_key }
    },
  })
  if (!verdict.allowed) throw new MatrixError('M_FORBIDDEN', verdict.reason)

  const auth = join.pdu.auth_events.flatMap((id) => outliers.events.get(id) ?? [])
  const place = async (task: RoomTask) => {
    const { root_id, writes } = await engine.deps.stateTrees.apply(undefined, room.room_nid, changes)
    task.write({ state: writes })
    const event_nid = await nids.next()
    await storeOnState(engine, task, {
      event: join,
      event_nid,
      placed: false,
      previous: [],
      auth,
      verdict: { flags: 0, reason: '' },
      before: { root: root_id, state },
      alone: true,
    })
    const user_id = join.pdu.sender
    task.write({
      also: (tx) => [tx`delete from stripped_states where room_nid = ${room.room_nid} and user_id = ${user_id}`],
    })
    task.write(gapWrites(room.room_nid, join.pdu.prev_events))
    task.write(more)
  }
  const isPlaced = await engine.tryRun(room_id, 'join', async (task) => {
    await task.drained()
    await place(task)
    return true
  })
  if (isPlaced) return
  const prepared = engine.prepare(emptyRoom(room.room_nid, room_id, rules))
  await place(prepared)
  await engine.createPrepared(prepared)
}

/** Our own event, with the signature of whoever vouched for it, where it needs one. Throws M_UNKNOWN with status 502 where that
 *  is not there: no server would take the join. */
export async function joinAsSigned(
  deps: Pick<JoinDeps, 'federation'>,
  rules: RoomRules,
  own: StoredEvent,
  signed: JsonValue | undefined,
): Promise<StoredEvent> {
  const [checked] = isJsonObject(signed) ? await checkPdus(deps.federation.keyRing, rules, [signed]) : []
  if (
    checked &&
    'event' in checked &&
    checked.event.pdu.event_id === own.pdu.event_id &&
    checked.event.content === own.content
  ) {
    return checked.event
  }
  const { join_authorised_via_users_server: authoriser } = own.pdu.content
  if (rules.restrictedJoins && typeof authoriser === 'string' && domainOf(authoriser) !== domainOf(own.pdu.sender)) {
    throw unsound(`${domainOf(authoriser)} did not sign the join that it is said to vouch for`)
  }
  return own
}

function createOf(state: readonly Pdu[], rules: RoomRules): Pdu {
  const create = state.find((pdu) => pdu.type === 'm.room.create' && pdu.state_key === '')
  if (!create) throw unsound('The state of the room has no create event')
  const { room_version = '1' } = create.content
  if (room_version !== rules.version) {
    throw unsound(`The room was said to have version ${rules.version}, and its create event says ${room_version}`)
  }
  return create
}

function unsound(sentence: string): MatrixError {
  return new MatrixError('M_UNKNOWN', sentence, { status: 502 })
}
