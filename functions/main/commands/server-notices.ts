/** Messages of the server itself: an account of its own sends them, in one room with each user.
 *  https://spec.matrix.org/v1.19/client-server-api/#server-notices */
import type { MainClient } from '../../../shared/commands/registry.ts'
import type { Config } from '../../../shared/config/schema.ts'
import type { DeviceId, RoomId, ServerName, UserId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { fromPgText, type MainSql } from '../../../shared/storage/sql.ts'
import { createKeyedQueue } from '../keyed-queue.ts'

/** Names the transactions of notices; it is no device that anybody has. */
const device_id = 'notices' as DeviceId
const tag = 'm.server_notice'
/** Who gets notices may read and leave. */
const readersLevel = -10

export interface ServerNoticeDeps {
  readonly sql: MainSql
  readonly config: Pick<Config, 'server_notices'>
  readonly serverName: ServerName
  /** Carried out wherever the rooms and users concerned are written. */
  readonly everywhere: MainClient
}

/** The account that notices come from. Its localpart begins with `_`, so that nobody can register it. */
export function noticesSender(config: Pick<Config, 'server_notices'>, server: ServerName): UserId {
  return `@${config.server_notices.localpart}:${server}` as UserId
}

export function serverNoticeHandlers(deps: ServerNoticeDeps): Pick<MainClient, 'sendServerNotice'> {
  const { sql, config, serverName, everywhere } = deps
  const sender = noticesSender(config, serverName)
  const { display_name, avatar_url, room_name } = config.server_notices
  // Two notices to a new user must not make two rooms.
  const queue = createKeyedQueue()

  async function knownSender(): Promise<void> {
    const [row] = await sql<{ display_name: string | null; avatar_url: string | null }[]>`
      select display_name, avatar_url from users left join profiles using (user_id) where user_id = ${sender}`
    if (!row) {
      const account = { user_id: sender, kind: 'user', admin: false, displayname: display_name } as const
      await everywhere.register(account).catch((error: unknown) => {
        if (!(error instanceof MatrixError) || error.errcode !== 'M_USER_IN_USE') throw error
      })
    } else if (row.display_name !== null && fromPgText(row.display_name) !== display_name) {
      await everywhere.setProfileField({
        user_id: sender,
        field: 'displayname',
        value: JSON.stringify(display_name),
      })
    }
    if (avatar_url !== undefined && row?.avatar_url !== avatar_url) {
      await everywhere.setProfileField({ user_id: sender, field: 'avatar_url', value: JSON.stringify(avatar_url) })
    }
  }

  /** The room of the user's notices, where the user is or is invited. */
  async function roomFor(user_id: UserId): Promise<RoomId> {
    const [held] = await sql<{ room_id: RoomId; membership: string; tags: string | null }[]>`
      select r.room_id, m.membership, (select content from account_data d
        where d.user_id = m.user_id and d.room_nid = m.room_nid and d.type = 'm.tag') as tags
      from memberships m join rooms r using (room_nid)
      where m.user_id = ${user_id} and r.creator = ${sender} order by m.position desc limit 1`
    if (held?.membership === 'join') return held.room_id
    const room_id = held ? held.room_id : await newRoom(user_id)
    // Clients show the room as the server's by this.
    if (!hasTag(held?.tags)) await everywhere.setTag({ user_id, room_id, tag, content: '{}' })
    if (held && held.membership !== 'invite') {
      await everywhere.changeMembership({ room_id, user_id: sender, target: user_id, action: 'invite' })
    }
    return room_id
  }

  async function newRoom(user_id: UserId): Promise<RoomId> {
    const { room_id } = await everywhere.createRoom({
      user_id: sender,
      preset: 'private_chat',
      name: room_name,
      invite: [user_id],
      power_level_content_override: { users_default: readersLevel },
    })
    return room_id
  }

  /** `tags`: JSON text of m.tag, as the user's clients may have written it. */
  function hasTag(tags: string | null | undefined): boolean {
    const content: { tags?: Record<string, unknown> | null } = tags ? JSON.parse(tags) : {}
    return content.tags?.[tag] !== undefined
  }

  return {
    async sendServerNotice({ user_id, txn_id, ...event }) {
      const [user] = await sql<{ deactivated: boolean }[]>`select deactivated from users where user_id = ${user_id}`
      if (!user || user.deactivated || user_id === sender) {
        throw new MatrixError('M_NOT_FOUND', 'There is no such user on this server')
      }
      const room_id = await queue.run(user_id, async () => {
        await knownSender()
        return roomFor(user_id)
      })
      return everywhere.sendEvent({ ...event, room_id, user_id: sender, device_id, txn_id })
    },
  }
}
