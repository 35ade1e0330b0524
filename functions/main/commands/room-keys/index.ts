/** The backup of room keys. https://spec.matrix.org/v1.19/client-server-api/#server-side-key-backups
 *  What changes a user's backups runs one at a time a user. Which key of a session stays is for the database to decide, in
 *  the commit: `put_room_keys` (migration 0007). */
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { roomKeyCommands } from '../../../../shared/commands/room-keys.ts'
import type { UserId } from '../../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import { currentRoomKeyVersion, roomKeyVersion } from '../../../../shared/storage/room-keys.ts'
import { type MainSql, pgText, type ReadSql } from '../../../../shared/storage/sql.ts'
import type { EndedRows } from '../../background/ended-rows.ts'
import { answered } from '../../command-call.ts'
import { createKeyedQueue } from '../../keyed-queue.ts'
import { type Committer, joinWrites, type Writes } from '../../persist/writes.ts'

interface Deps {
  readonly sql: MainSql
  readonly committer: Committer
  readonly endedRows: Pick<EndedRows, 'sweep'>
}

type Updated = Awaited<ReturnType<MainClient['putRoomKeys']>>

/** Of one user, those that are not deleted. */
const versionsMax = 1_000
/** Keys that are deleted by one statement. */
const keysPerStatement = 2_000

export function roomKeyHandlers(deps: Deps): Pick<MainClient, keyof typeof roomKeyCommands> {
  const { committer, endedRows } = deps
  const sql = deps.sql as unknown as ReadSql
  const queue = createKeyedQueue()

  async function existing(user_id: UserId, version: number) {
    const found = await roomKeyVersion(sql, user_id, version)
    if (!found) throw unknownVersion()
    return found
  }

  async function updated(user_id: UserId, version: number): Promise<Updated> {
    const { etag, count } = await existing(user_id, version)
    return { etag, count }
  }

  function commit(...parts: Writes[]): Promise<void> {
    return committer.commit(joinWrites(...parts))
  }

  async function create({ user_id, algorithm, auth_data }: Parameters<MainClient['createRoomKeyVersion']>[0]) {
    const [last] = await sql<{ version: number; held: number }[]>`
      select coalesce(max(version), 0) as version, count(*) filter (where not deleted)::integer as held
      from room_key_versions where user_id = ${user_id}`
    if ((last?.held ?? 0) >= versionsMax) {
      throw new MatrixError('M_TOO_LARGE', `A user can have ${versionsMax} backups at most: delete one first`, {
        status: 400,
      })
    }
    const version = (last?.version ?? 0) + 1
    const response = { version: String(version) }
    const made: Writes = {
      also: (tx) => [
        tx`insert into room_key_versions (user_id, version, algorithm, auth_data, key_set)
          values (${user_id}, ${version}, ${pgText(algorithm)}, ${JSON.stringify(auth_data)},
            nextval('room_key_sets'))`,
      ],
    }
    await commit(made, answered(response))
    return response
  }

  async function update(request: Parameters<MainClient['updateRoomKeyVersion']>[0]) {
    const { user_id, version, algorithm, auth_data } = request
    const held = await existing(user_id, version)
    if (held.algorithm !== algorithm) {
      throw new MatrixError('M_INVALID_PARAM', `The algorithm of this backup is ${held.algorithm}`)
    }
    const changed: Writes = {
      also: (tx) => [
        tx`update room_key_versions set auth_data = ${JSON.stringify(auth_data)}
          where user_id = ${user_id} and version = ${version}`,
      ],
    }
    await commit(changed, answered({}))
    return {}
  }

  async function remove({ user_id, version }: Parameters<MainClient['deleteRoomKeyVersion']>[0]) {
    await existing(user_id, version)
    const gone: Writes = {
      also: (tx) => [
        tx`select end_room_keys(${user_id}, array[${version}::bigint])`,
        tx`update room_key_versions set deleted = true where user_id = ${user_id} and version = ${version}`,
      ],
    }
    await commit(gone, answered({}))
    endedRows.sweep()
    return {}
  }

  async function put({ user_id, version, keys }: Parameters<MainClient['putRoomKeys']>[0]): Promise<Updated> {
    const current = await currentRoomKeyVersion(sql, user_id)
    if (!current) throw unknownVersion()
    if (current.version !== String(version)) {
      throw new MatrixError('M_WRONG_ROOM_KEYS_VERSION', 'This is not the current backup', {
        extra: { current_version: current.version },
      })
    }
    if (keys.length === 0) return { etag: current.etag, count: current.count }
    const rows = JSON.stringify(
      keys.map((key) => ({
        ...key,
        room_id: pgText(key.room_id),
        session_id: pgText(key.session_id),
        session_data: JSON.stringify(key.session_data),
      })),
    )
    await commit({ also: (tx) => [tx`select put_room_keys(${user_id}, ${version}, ${rows}::text::jsonb)`] })
    return updated(user_id, version)
  }

  async function removeKeys(request: Parameters<MainClient['deleteRoomKeys']>[0]): Promise<Updated> {
    const { user_id, version, room_id, session_id } = request
    let before = await existing(user_id, version)
    if (room_id === undefined) {
      await commit({ also: (tx) => [tx`select end_room_keys(${user_id}, array[${version}::bigint])`] })
      endedRows.sweep()
      return updated(user_id, version)
    }
    const room = pgText(room_id)
    const session = session_id === undefined ? null : pgText(session_id)
    for (;;) {
      await commit({
        also: (tx) => [tx`select delete_room_keys(${user_id}, ${version}, ${room}, ${session}, ${keysPerStatement})`],
      })
      const after = await existing(user_id, version)
      if (before.count - after.count < keysPerStatement) return { etag: after.etag, count: after.count }
      before = after
    }
  }

  return {
    createRoomKeyVersion: (request) => queue.run(request.user_id, () => create(request)),
    updateRoomKeyVersion: (request) => queue.run(request.user_id, () => update(request)),
    deleteRoomKeyVersion: (request) => queue.run(request.user_id, () => remove(request)),
    putRoomKeys: (request) => queue.run(request.user_id, () => put(request)),
    deleteRoomKeys: (request) => queue.run(request.user_id, () => removeKeys(request)),
  }
}

function unknownVersion(): MatrixError {
  return new MatrixError('M_NOT_FOUND', 'There is no such backup')
}
