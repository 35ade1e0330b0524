import type { Config } from '../../../shared/config/schema.ts'
import { serverNameOf, type UserId } from '../../../shared/matrix/ids.ts'

/** The users of this server among `users`; and the servers of the others, each with why it was not asked. */
export function unreachable(users: readonly UserId[], { server_name }: Pick<Config, 'server_name'>) {
  const local: UserId[] = []
  const failures = new Map<string, { errcode: string; error: string }>()
  for (const user of users) {
    const server = serverNameOf(user)
    if (server === server_name) local.push(user)
    else failures.set(server, { errcode: 'M_UNAVAILABLE', error: 'This server does not reach that one' })
  }
  return { local, failures: Object.fromEntries(failures) }
}
