/** What the sync role holds of a user whose clients sync: their rooms, and what changed of late. Read once, then kept up
 *  by streams. */
import { ignoredUsers } from '../../shared/core/ignored-users.ts'
import { compileInvitePermission, invitePermissionTypes } from '../../shared/core/invite-permission.ts'
import type { UserId } from '../../shared/matrix/ids.ts'
import type { Membership, MembershipChange } from '../../shared/storage/sync-rooms.ts'
import type { AccountDataRow } from '../../shared/streams/account-data.ts'
import type { EventRow } from '../../shared/streams/events.ts'
import type { PresenceState } from '../../shared/streams/presence.ts'
import type { ReceiptRow } from '../../shared/streams/receipts.ts'
import { Inboxes } from './inboxes.ts'
import { DeviceKeyCounts } from './key-counts.ts'
import type { LiveRoom } from './live-room.ts'
import type { RoomUnread } from './unread.ts'

/** A membership; `room` is set while it is `join`. */
export interface UserRoom {
  readonly room_nid: number
  readonly room_id: LiveRoom['room_id']
  membership: Membership
  /** Of the member event. */
  position: number
  sender: UserId
  /** Where the user last came in; 0 if never. */
  joinedAt: number
  /** Where the user last ceased to be joined; 0 if never. */
  leftAt: number
  room: LiveRoom | undefined
}

/** A request that waits. */
export interface Waiter {
  wake(): void
}

const changesMax = 500
const accountDataMax = 200
/** Content of recent account data that is kept, in characters. */
const accountDataCharactersMax = 65_536
const receiptsMax = 100

export class LiveUser {
  readonly user_id: UserId
  readonly rooms = new Map<number, UserRoom>()
  readonly waiters = new Set<Waiter>()
  /** No longer kept up: the next request reads a new entry. */
  forgotten = false
  /** Requests that are being answered, and so need the entry to stay. */
  uses = 0
  /** All changes of membership after position `changesFrom`. */
  changes: MembershipChange[] = []
  changesFrom = 0
  /** Position of the last change of account data, and all changes after `accountDataFrom`. */
  accountData = 0
  accountDataFrom = 0
  recentAccountData: AccountDataRow[] = []
  private accountDataCharacters = 0
  /** The same for private receipts. */
  privateReceipts = 0
  privateReceiptsFrom = 0
  recentPrivateReceipts: ReceiptRow[] = []
  /** Position of the last change of the threads that the user follows. */
  threadSubscriptions = 0
  readonly inboxes = new Inboxes()
  ignored: ReadonlySet<string> = new Set()
  private readonly inviteConfigs = new Map<string, string>()
  private invites = compileInvitePermission(this.inviteConfigs)
  pushClass = 0
  /** Set while the class is read anew: the rules have changed. */
  pushClassRead: Promise<void> | undefined
  readonly unread = new Map<number, RoomUnread>()
  /** Of devices that sync here. */
  readonly keyCounts = new Map<string, DeviceKeyCounts>()
  /** How many of the user's own receipts were heard of. */
  ownReceipts = 0
  /** What main was last told of this user's presence, and when. */
  told: { presence: PresenceState; ts: number } | undefined
  /** Member events that each device was sent, with the position of that answer, so that lazy loading does not repeat them. */
  readonly sentMembers = new Map<string, Map<number, Map<string, number>>>()
  /** How many entries that is in all, at most. */
  sentMembersCount = 0

  constructor(user_id: UserId) {
    this.user_id = user_id
  }

  /** Applies a member event of this user; `room` is the live room, given for a join. */
  applyMember(row: EventRow, member: NonNullable<EventRow['member']>, room: LiveRoom | undefined): void {
    const known = this.rooms.get(row.room_nid)
    if (known && known.position >= row.position) return
    const membership = member.membership as Membership
    const cameIn = membership === 'join' && member.prev_membership !== 'join'
    const wentOut = membership !== 'join' && member.prev_membership === 'join'
    this.rooms.set(row.room_nid, {
      room_nid: row.room_nid,
      room_id: row.room_id,
      membership,
      position: row.position,
      sender: row.sender,
      joinedAt: cameIn ? row.position : (known?.joinedAt ?? 0),
      leftAt: wentOut ? row.position : (known?.leftAt ?? 0),
      room,
    })
    if (!room) this.unread.delete(row.room_nid)
    this.changes.push({
      position: row.position,
      room_nid: row.room_nid,
      membership,
      prev_membership: (member.prev_membership as Membership | undefined) ?? null,
    })
    if (this.changes.length > changesMax) {
      const dropped = this.changes.splice(0, changesMax / 2)
      this.changesFrom = dropped.at(-1)?.position ?? this.changesFrom
    }
  }

  addAccountData(row: AccountDataRow): void {
    if (row.position > this.accountData) this.accountData = row.position
    if (row.room_nid === 0) {
      if (row.type === 'm.ignored_user_list') this.ignored = ignoredUsers(row.content)
      else if (invitePermissionTypes.includes(row.type)) this.setInviteConfig(row.type, row.content)
    }
    if (row.position <= this.accountDataFrom) return
    this.recentAccountData.push(row)
    this.accountDataCharacters += row.content.length
    while (this.recentAccountData.length > accountDataMax || this.accountDataCharacters > accountDataCharactersMax) {
      const dropped = this.recentAccountData.shift()
      if (!dropped) break
      this.accountDataCharacters -= dropped.content.length
      this.accountDataFrom = dropped.position
    }
  }

  /** `content`: JSON text of the account data that says from whom the user takes invites. */
  setInviteConfig(type: string, content: string): void {
    this.inviteConfigs.set(type, content)
    this.invites = compileInvitePermission(this.inviteConfigs)
  }

  /** Whether an invite by this user is shown: also one that was there before they were blocked is not. */
  showsInvite(sender: string): boolean {
    return !this.ignored.has(sender) && this.invites.ruleFor(sender) === 'allow'
  }

  addPrivateReceipt(row: ReceiptRow): void {
    if (row.position > this.privateReceipts) this.privateReceipts = row.position
    if (row.position <= this.privateReceiptsFrom) return
    this.recentPrivateReceipts.push(row)
    if (this.recentPrivateReceipts.length > receiptsMax) {
      const dropped = this.recentPrivateReceipts.splice(0, receiptsMax / 2)
      this.privateReceiptsFrom = dropped.at(-1)?.position ?? this.privateReceiptsFrom
    }
  }

  keyCountsOf(device_id: string): DeviceKeyCounts {
    let counts = this.keyCounts.get(device_id)
    if (!counts) {
      counts = new DeviceKeyCounts()
      this.keyCounts.set(device_id, counts)
    }
    return counts
  }

  wake(): void {
    for (const waiter of this.waiters) waiter.wake()
  }
}
