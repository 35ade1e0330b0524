/** Account data, tags and filters. https://spec.matrix.org/v1.19/client-server-api/#client-config */
import { createHash } from 'node:crypto'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { RoomId } from '../../../../shared/matrix/ids.ts'
import { isJsonObject, type JsonObject } from '../../../../shared/matrix/json-value.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import { accountDataOf, isThere } from '../../../../shared/storage/account-data.ts'
import { type MainSql, pgText } from '../../../../shared/storage/sql.ts'
import { answered } from '../../command-call.ts'
import type { KeyedQueue } from '../../keyed-queue.ts'
import type { Committer } from '../../persist/writes.ts'

interface Deps {
  readonly sql: MainSql
  readonly committer: Committer
  readonly queue: KeyedQueue
}

/** Account data is the user's own; this keeps one entry from filling the database and every sync. */
const tagsMax = 500

export function accountDataHandlers(deps: Deps): Pick<MainClient, 'setAccountData' | 'setTag' | 'createFilter'> {
  const { sql, committer, queue } = deps

  async function roomNid(roomId: RoomId): Promise<number> {
    const [room] = await sql<{ room_nid: number }[]>`select room_nid from rooms where room_id = ${roomId}`
    if (!room) throw new MatrixError('M_NOT_FOUND', 'This server knows no such room')
    return room.room_nid
  }

  const setTag: MainClient['setTag'] = async (request) => {
    const room_nid = await roomNid(request.room_id)
    const [held] = await sql<{ content: string }[]>`
      select content from account_data
      where user_id = ${request.user_id} and room_nid = ${room_nid} and type = 'm.tag'`
    const tags = new Map(Object.entries(held ? tagsIn(held.content) : {}))
    if (request.content === undefined) {
      if (!tags.delete(request.tag)) return {}
    } else {
      tags.set(request.tag, JSON.parse(request.content))
      if (tags.size > tagsMax) throw new MatrixError('M_TOO_LARGE', `A room can have ${tagsMax} tags at most`)
    }
    const content = JSON.stringify({ tags: Object.fromEntries(tags) })
    await committer.commit({
      account_data: [{ user_id: request.user_id, room_nid, room_id: request.room_id, type: 'm.tag', content }],
      ...answered({}),
    })
    return {}
  }

  return {
    async setAccountData(request) {
      const { user_id, room_id, type, content } = request
      const room_nid = room_id ? await roomNid(room_id) : 0
      // What is not there need not be taken away, and leaves nothing behind.
      if (!isThere({ content }) && (await accountDataOf(sql, { user_id, room_id, type })) === undefined) return {}
      await committer.commit({
        account_data: [{ user_id, room_nid, ...(room_id ? { room_id } : {}), type, content }],
        ...answered({}),
      })
      return {}
    },
    // One at a time a user and room: a tag is added to those that are there.
    setTag: (request) => queue.run(`${request.user_id} ${request.room_id}`, () => setTag(request)),
    createFilter: (request) =>
      queue.run(request.user_id, async () => {
        const filter_hash = createHash('sha256').update(request.filter).digest()
        const [row] = await sql<{ filter_id: number }[]>`
          with known as (
            select filter_id from filters where user_id = ${request.user_id} and filter_hash = ${filter_hash}
          ), made as (
            insert into filters (user_id, filter_id, filter, filter_hash)
            select ${request.user_id}, coalesce((select max(filter_id) + 1 from filters where user_id = ${request.user_id}), 0),
              ${pgText(request.filter)}, ${filter_hash}
            where not exists (select from known)
            returning filter_id
          )
          select filter_id from known union all select filter_id from made`
        if (!row) throw new Error('a filter was neither found nor made')
        return { filter_id: String(row.filter_id) }
      }),
  }
}

/** Of `m.tag` as JSON text, which a client may have written in another form: then there are none. */
function tagsIn(content: string): JsonObject {
  const { tags } = JSON.parse(content) as JsonObject
  return isJsonObject(tags) ? tags : {}
}
