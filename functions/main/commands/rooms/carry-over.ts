/** What a user had set for a room goes on in the room that replaced it: tags, being a direct chat, push rules.
 *  https://spec.matrix.org/v1.19/client-server-api/#server-behaviour-16 */
import type { RoomId, UserId } from '../../../../shared/matrix/ids.ts'
import { isJsonObject, type JsonObject } from '../../../../shared/matrix/json-value.ts'
import { isThere } from '../../../../shared/storage/account-data.ts'
import type { MainSql } from '../../../../shared/storage/sql.ts'
import type { AccountDataRow } from '../../../../shared/streams/account-data.ts'
import type { Committer, Unplaced } from '../../persist/writes.ts'
import { type Room, statePdu } from '../../rooms/room.ts'

/** Whether the room names one that it replaces. */
export function replacesRoom(room: Room): boolean {
  return isJsonObject(statePdu(room, 'm.room.create', '')?.content.predecessor)
}

export interface UpgradeCarryOver {
  /** A local user joined the room. If it replaces one they were in, their settings follow. */
  joined(user_id: UserId, room_id: RoomId): Promise<void>
}

export interface CarryOverDeps {
  readonly sql: MainSql
  readonly committer: Committer
  readonly copyPushRules: (user_id: UserId, rooms: { from: RoomId; to: RoomId }) => Promise<void>
}

interface Predecessor {
  readonly room_nid: number
  readonly old_nid: number
  readonly old_id: RoomId
}

export function createCarryOver(deps: CarryOverDeps): UpgradeCarryOver {
  const { sql, committer, copyPushRules } = deps

  /** The room that this one names as its predecessor, if the user was in it. */
  async function predecessorOf(user_id: UserId, room_id: RoomId): Promise<Predecessor | undefined> {
    const [create] = await sql<{ room_nid: number; content: string }[]>`
      select r.room_nid, e.content from rooms r
      join current_state c on c.room_nid = r.room_nid and c.type = 'm.room.create' and c.state_key = ''
      join events e on e.event_nid = c.event_nid
      where r.room_id = ${room_id} and e.content like '%"predecessor"%'`
    if (!create) return undefined
    const { predecessor } = JSON.parse(create.content) as JsonObject
    if (!isJsonObject(predecessor) || typeof predecessor.room_id !== 'string') return undefined
    const old_id = predecessor.room_id as RoomId
    const [old] = await sql<{ room_nid: number }[]>`
      select r.room_nid from rooms r join memberships m on m.room_nid = r.room_nid and m.user_id = ${user_id}
      where r.room_id = ${old_id} and m.membership in ('join', 'leave') and not m.forgotten`
    return old && { room_nid: create.room_nid, old_nid: old.room_nid, old_id }
  }

  return {
    async joined(user_id, room_id) {
      const found = await predecessorOf(user_id, room_id)
      if (!found) return
      const rows = await sql<{ room_nid: number; type: string; content: string }[]>`
        select room_nid, type, content from account_data
        where user_id = ${user_id} and ((room_nid in (${found.old_nid}, ${found.room_nid}) and type = 'm.tag')
          or (room_nid = 0 and type = 'm.direct'))`
      const account_data: Unplaced<AccountDataRow>[] = []
      const tags = rows.find((row) => row.room_nid === found.old_nid)
      if (tags && isThere(tags) && !rows.some((row) => row.room_nid === found.room_nid)) {
        account_data.push({ user_id, room_nid: found.room_nid, room_id, type: 'm.tag', content: tags.content })
      }
      const direct = rows.find((row) => row.type === 'm.direct')
      const content = direct && directWith(JSON.parse(direct.content) as JsonObject, found.old_id, room_id)
      if (content) account_data.push({ user_id, room_nid: 0, type: 'm.direct', content: JSON.stringify(content) })
      if (account_data.length > 0) await committer.commit({ account_data })
      await copyPushRules(user_id, { from: found.old_id, to: room_id })
    },
  }
}

/** `m.direct` with the new room beside the old one; undefined where that changes nothing. */
function directWith(direct: JsonObject, from: RoomId, to: RoomId): JsonObject | undefined {
  let changed = false
  const content: JsonObject = {}
  for (const [user, rooms] of Object.entries(direct)) {
    const follows = Array.isArray(rooms) && rooms.includes(from) && !rooms.includes(to)
    content[user] = follows ? [...rooms, to] : rooms
    changed ||= follows
  }
  return changed ? content : undefined
}
