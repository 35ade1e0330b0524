/** What the commands on rooms are given. */
import type { Clock } from '../../../../shared/clock.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { Config } from '../../../../shared/config/schema.ts'
import type { RoomId, ServerName, UserId } from '../../../../shared/matrix/ids.ts'
import type { MainSql } from '../../../../shared/storage/sql.ts'
import type { MembershipElsewhere } from '../../federation/membership-elsewhere.ts'
import type { Nids } from '../../persist/nids.ts'
import type { Committer } from '../../persist/writes.ts'
import type { RoomEngine } from '../../rooms/engine.ts'
import type { Transactions } from '../../rooms/transactions.ts'
import type { UpgradeCarryOver } from './carry-over.ts'

export interface RoomCommandDeps {
  readonly sql: MainSql
  readonly clock: Clock
  readonly config: Pick<Config, 'rooms' | 'server_notices'>
  readonly serverName: ServerName
  readonly committer: Committer
  readonly nids: Nids
  readonly engine: RoomEngine
  readonly transactions: Transactions
  /** Carries settings over for users of this process. */
  readonly carryOver: UpgradeCarryOver
  /** A local user joined a room that replaces another: what they had set follows, wherever the user's data are written. */
  readonly settingsFollow: (user_id: UserId, room_id: RoomId) => Promise<unknown>
  /** Invites a user of another server, wherever the room is written. */
  readonly inviteOther: MainClient['changeMembership']
  /** For rooms that other servers hold. */
  readonly elsewhere: MembershipElsewhere
  /** A time that no other room was created at: where the room id is the create event's hash, one user's rooms would
   *  otherwise be one room if they are alike and of the same millisecond. */
  readonly creationTs: () => number
}

/** The clock's time, or the next that was not handed out. */
export function distinctTimes(clock: Clock): () => number {
  let last = 0
  return () => {
    last = Math.max(last + 1, clock.now())
    return last
  }
}
