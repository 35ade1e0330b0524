import type { Clock } from '../../../../shared/clock.ts'
import type { Config } from '../../../../shared/config/schema.ts'
import type { UserId } from '../../../../shared/matrix/ids.ts'
import type { MainSql } from '../../../../shared/storage/sql.ts'
import type { Departures } from '../../background/departures.ts'
import type { EndedRows } from '../../background/ended-rows.ts'
import type { KeyedQueue } from '../../keyed-queue.ts'
import type { Committer } from '../../persist/writes.ts'
import type { Passwords } from './passwords.ts'

/** What accounts ask of the room engine. */
export interface AccountRooms {
  /** Sends the member events that a new profile makes in every room the user is joined to. */
  memberProfileChanged(
    user_id: UserId,
    profile: { readonly displayname?: string | undefined; readonly avatar_url?: string | undefined },
  ): Promise<void>
}

export interface AccountDeps {
  readonly config: Config
  readonly sql: MainSql
  readonly committer: Committer
  readonly clock: Clock
  readonly rooms: AccountRooms
  readonly departures: Departures
  readonly endedRows: Pick<EndedRows, 'sweep'>
  readonly queue: KeyedQueue
  readonly passwords: Passwords
}
