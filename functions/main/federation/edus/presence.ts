/** https://spec.matrix.org/v1.19/server-server-api/#presence */
import * as v from 'valibot'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import { type ServerName, serverNameOf, UserId } from '../../../../shared/matrix/ids.ts'
import type { MainSql } from '../../../../shared/storage/sql.ts'
import { PresenceState } from '../../../../shared/streams/presence.ts'
import { eduHandler } from './index.ts'

const usersMax = 1_000
const statusBytesMax = 4_096

export function presenceEdu(deps: {
  readonly sql: MainSql
  readonly enabled: boolean
  readonly receivePresence: MainClient['receivePresence']
}) {
  const { sql, enabled, receivePresence } = deps

  /** Those who are in a room that is here: of others nobody would see it. */
  async function known(users: readonly UserId[]): Promise<Set<UserId>> {
    const rows = await sql<{ user_id: UserId }[]>`
      select distinct user_id from memberships
      where user_id = any(${sql.array([...users], 25)}::text[]) and membership = 'join'`
    return new Set(rows.map((row) => row.user_id))
  }

  return eduHandler({
    edu_type: 'm.presence',
    content: v.object({
      push: v.pipe(
        v.array(
          v.object({
            user_id: UserId,
            presence: PresenceState,
            last_active_ago: v.optional(v.pipe(v.number(), v.minValue(0))),
            currently_active: v.optional(v.boolean(), false),
            status_msg: v.nullish(v.pipe(v.string(), v.maxBytes(statusBytesMax))),
          }),
        ),
        v.maxLength(usersMax),
      ),
    }),
    async handle(origin: ServerName, { push }) {
      const own = enabled ? push.filter(({ user_id }) => serverNameOf(user_id) === origin) : []
      if (own.length === 0) return
      const here = await known(own.map((update) => update.user_id))
      const updates = own.flatMap(({ status_msg, last_active_ago, ...update }) =>
        here.has(update.user_id)
          ? [
              {
                ...update,
                ...(status_msg ? { status_msg } : undefined),
                ...(last_active_ago === undefined ? undefined : { last_active_ago }),
              },
            ]
          : [],
      )
      if (updates.length > 0) await receivePresence({ updates })
    },
  })
}
