/** Devices: their names, and when they were last seen. */
import type { MainClient } from '../../../../shared/commands/registry.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import { pgText } from '../../../../shared/storage/sql.ts'
import { answered } from '../../command-call.ts'
import { joinWrites, type Writes } from '../../persist/writes.ts'
import type { AccountDeps } from './deps.ts'

const nameCharactersMax = 100

export function deviceHandlers({ sql, committer }: AccountDeps): Pick<MainClient, 'renameDevice' | 'deviceSeen'> {
  return {
    async renameDevice({ user_id, device_id, display_name }) {
      if (display_name.length > nameCharactersMax) {
        throw new MatrixError('M_TOO_LARGE', `A device's name has ${nameCharactersMax} characters at most`, {
          status: 400,
        })
      }
      const device = pgText(device_id)
      const [known] = await sql<{ has_keys: boolean }[]>`
        select exists (select from device_keys k where k.user_id = d.user_id and k.device_id = d.device_id) as has_keys
        from devices d where user_id = ${user_id} and device_id = ${device}`
      if (!known) throw new MatrixError('M_NOT_FOUND', 'There is no such device')
      const renamed: Writes = {
        // The name is shown beside the keys.
        ...(known.has_keys ? { device_lists: [{ user_id }] } : {}),
        also: (tx) => [
          tx`update devices set display_name = ${pgText(display_name)}
            where user_id = ${user_id} and device_id = ${device}`,
        ],
      }
      await committer.commit(joinWrites(renamed, answered({})))
      return {}
    },
    async deviceSeen({ user_id, device_id, ts, ip, agent }) {
      await sql`
        update devices set last_seen_ts = ${ts}, last_seen_ip = ${ip ?? null},
          last_seen_agent = ${agent === undefined ? null : pgText(agent)}
        where user_id = ${user_id} and device_id = ${pgText(device_id)}
          and (last_seen_ts is null or last_seen_ts < ${ts})`
      return {}
    },
  }
}
