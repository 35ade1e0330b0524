import type { Session } from '../../../shared/commands/accounts.ts'
import type { Config } from '../../../shared/config/schema.ts'

/** What login and registration answer with. */
export function sessionReply(session: Session, config: Config): object {
  return {
    ...session,
    home_server: config.server_name,
    ...(config.public_baseurl === undefined
      ? {}
      : { well_known: { 'm.homeserver': { base_url: config.public_baseurl } } }),
  }
}
