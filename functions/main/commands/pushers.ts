/** Pushers of local users: one for a user, an app and its key. https://spec.matrix.org/v1.19/client-server-api/#http-api-5 */
import type { Clock } from '../../../shared/clock.ts'
import type { MainClient } from '../../../shared/commands/registry.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { type MainSql, pgText } from '../../../shared/storage/sql.ts'
import type { KeyedQueue } from '../keyed-queue.ts'
import type { Committer } from '../persist/writes.ts'

/** Of one user: a phone has one for each of its apps. */
const pushersMax = 100

export function pusherHandlers({
  sql,
  committer,
  clock,
  queue,
}: {
  readonly sql: MainSql
  readonly committer: Committer
  readonly clock: Clock
  /** In which the user's sessions change: a pusher must not be set for a device that is just going. */
  readonly queue: KeyedQueue
}): Pick<MainClient, 'setPusher' | 'deletePusher'> {
  return {
    setPusher: (pusher) =>
      queue.run(pusher.user_id, async () => {
        const { user_id } = pusher
        const [app_id, pushkey, device_id] = [pgText(pusher.app_id), pgText(pusher.pushkey), pgText(pusher.device_id)]
        const [found] = await sql<{ device: boolean; others: number }[]>`
          select exists (select from devices where user_id = ${user_id} and device_id = ${device_id}) as device,
            (select count(*)::integer from pushers
              where user_id = ${user_id} and (app_id, pushkey) <> (${app_id}, ${pushkey})) as others`
        if (!found?.device) throw new MatrixError('M_UNKNOWN_TOKEN', 'This session has ended')
        if (found.others >= pushersMax) {
          throw new MatrixError(
            'M_RESOURCE_LIMIT_EXCEEDED',
            `A user has ${pushersMax} pushers at most: delete some first`,
          )
        }
        await committer.commit({
          also: (tx) => [
            ...(pusher.append
              ? []
              : [tx`delete from pushers where app_id = ${app_id} and pushkey = ${pushkey} and user_id <> ${user_id}`]),
            tx`insert into pushers (user_id, app_id, pushkey, device_id, kind, app_display_name, device_display_name,
                profile_tag, lang, data, set_ts)
              values (${user_id}, ${app_id}, ${pushkey}, ${device_id}, ${pusher.kind},
                ${pgText(pusher.app_display_name)}, ${pgText(pusher.device_display_name)},
                ${pusher.profile_tag === undefined ? null : pgText(pusher.profile_tag)}, ${pgText(pusher.lang)},
                ${JSON.stringify(pusher.data)}, ${clock.now()})
              on conflict (user_id, app_id, pushkey) do update set device_id = excluded.device_id,
                kind = excluded.kind, app_display_name = excluded.app_display_name,
                device_display_name = excluded.device_display_name, profile_tag = excluded.profile_tag,
                lang = excluded.lang, data = excluded.data, set_ts = excluded.set_ts`,
          ],
        })
        return {}
      }),
    deletePusher: ({ user_id, app_id, pushkey }) =>
      queue.run(user_id, async () => {
        await committer.commit({
          also: (tx) => [
            tx`delete from pushers
              where user_id = ${user_id} and app_id = ${pgText(app_id)} and pushkey = ${pgText(pushkey)}`,
          ],
        })
        return {}
      }),
  }
}
