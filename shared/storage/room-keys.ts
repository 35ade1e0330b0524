/** Reads of the backup of room keys. https://spec.matrix.org/v1.19/client-server-api/#server-side-key-backups */
import type { RoomId, UserId } from '../matrix/ids.ts'
import { fromPgText, pgText, type ReadSql } from './sql.ts'

export interface RoomKeyVersion {
  readonly version: string
  readonly algorithm: string
  /** JSON text. */
  readonly auth_data: string
  readonly count: number
  readonly etag: string
  /** Names the keys in `room_keys`. */
  readonly key_set: number
}

export interface StoredRoomKey {
  readonly room_id: RoomId
  readonly session_id: string
  readonly first_message_index: number
  readonly forwarded_count: number
  readonly is_verified: boolean
  /** JSON text. */
  readonly session_data: string
}

/** A backup that is there: not one that was deleted. */
export async function roomKeyVersion(
  sql: ReadSql,
  user_id: UserId,
  version: number,
): Promise<RoomKeyVersion | undefined> {
  const [row] = await sql<RoomKeyVersion[]>`
    select version::text as version, algorithm, auth_data, key_count as count, etag::text as etag, key_set
    from room_key_versions where user_id = ${user_id} and version = ${version} and not deleted`
  return row && { ...row, algorithm: fromPgText(row.algorithm) }
}

/** The newest backup of the user. */
export async function currentRoomKeyVersion(sql: ReadSql, user_id: UserId): Promise<RoomKeyVersion | undefined> {
  const [row] = await sql<RoomKeyVersion[]>`
    select version::text as version, algorithm, auth_data, key_count as count, etag::text as etag, key_set
    from room_key_versions where user_id = ${user_id} and not deleted order by version desc limit 1`
  return row && { ...row, algorithm: fromPgText(row.algorithm) }
}

const keysPerPage = 1_000

/** The keys of a set, or of one room in it, by room and session; a page at a time, so that memory is bounded whatever there
 *  is. */
export async function* roomKeys(sql: ReadSql, key_set: number, room_id?: RoomId): AsyncIterable<StoredRoomKey[]> {
  const room = room_id === undefined ? null : pgText(room_id)
  let after = ['', '']
  for (;;) {
    const rows = await sql<StoredRoomKey[]>`
      select room_id, session_id, first_message_index, forwarded_count, is_verified, session_data
      from room_keys
      where key_set = ${key_set} and (${room}::text is null or room_id = ${room})
        and (room_id, session_id) > (${after[0] ?? ''}, ${after[1] ?? ''})
      order by room_id, session_id limit ${keysPerPage}`
    const last = rows.at(-1)
    if (!last) return
    yield rows.map(restored)
    if (rows.length < keysPerPage) return
    after = [last.room_id, last.session_id]
  }
}

export async function roomKey(
  sql: ReadSql,
  key_set: number,
  { room_id, session_id }: { readonly room_id: RoomId; readonly session_id: string },
): Promise<StoredRoomKey | undefined> {
  const [row] = await sql<StoredRoomKey[]>`
    select room_id, session_id, first_message_index, forwarded_count, is_verified, session_data
    from room_keys
    where key_set = ${key_set} and room_id = ${pgText(room_id)} and session_id = ${pgText(session_id)}`
  return row && restored(row)
}

function restored(row: StoredRoomKey): StoredRoomKey {
  return { ...row, room_id: fromPgText(row.room_id) as RoomId, session_id: fromPgText(row.session_id) }
}
