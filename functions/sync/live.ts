/** The sync role's memory: users whose clients sync, the rooms they are joined to, and who waits for what. Streams feed
 *  it, so it is always at the positions that replication tells; it is bounded, and what it has forgotten is read again. */

import { LRUCache } from 'lru-cache'
import { ignoredUsers } from '../../shared/core/ignored-users.ts'
import { entriesUpTo } from '../../shared/lru-bound.ts'
import type { RoomId, UserId } from '../../shared/matrix/ids.ts'
import { cacheTally, liveNumber } from '../../shared/metrics/tallies.ts'
import type { Replication } from '../../shared/replication/replication.ts'
import type { SharedCache } from '../../shared/replication/shared-cache.ts'
import { pushClassOf } from '../../shared/storage/push-rules.ts'
import type { ReadSql } from '../../shared/storage/sql.ts'
import { localMemberships } from '../../shared/storage/sync-members.ts'
import { joinedRoomsOf, roomsOfUser } from '../../shared/storage/sync-rooms.ts'
import { userDataPositions } from '../../shared/storage/sync-users.ts'
import { inboxEnds } from '../../shared/storage/to-device.ts'
import type { AccountDataRow } from '../../shared/streams/account-data.ts'
import type { DeviceListRow } from '../../shared/streams/device-lists.ts'
import type { EventRow } from '../../shared/streams/events.ts'
import type { InvalidationRow } from '../../shared/streams/invalidations.ts'
import type { KeyCountRow } from '../../shared/streams/key-counts.ts'
import type { PresenceRow } from '../../shared/streams/presence.ts'
import type { ReceiptRow } from '../../shared/streams/receipts.ts'
import type { StreamPositions } from '../../shared/streams/registry.ts'
import type { ThreadSubscriptionRow } from '../../shared/streams/thread-subscriptions.ts'
import type { ToDeviceRow } from '../../shared/streams/to-device.ts'
import type { TypingRow } from '../../shared/streams/typing.ts'
import { DeviceListLog } from './device-list-log.ts'
import { LiveRoom } from './live-room.ts'
import { LiveUser } from './live-user.ts'
import { PresenceLog } from './presence-log.ts'
import { RoomMemory } from './room-memory.ts'
import { applyOwnReceipt } from './unread.ts'
import { UserRooms } from './user-rooms.ts'
import { Wakes } from './wakes.ts'

const usersTally = cacheTally('sync_users')
/** Users are weighed by their rooms: about 250 bytes each. */
const membershipsMax = 400_000
const userWeight = 8
const typingRoomsMax = 20_000

interface Load {
  readonly events: EventRow[]
  readonly receipts: ReceiptRow[]
  readonly accountData: AccountDataRow[]
  readonly toDevice: ToDeviceRow[]
  readonly threadSubscriptions: ThreadSubscriptionRow[]
}

export class Live {
  readonly presence = new PresenceLog()
  readonly deviceLists: DeviceListLog
  /** Rooms of those whose device lists changed, where nothing else here knows them. */
  private readonly userRooms: UserRooms
  /** Whose device lists changed, and it is not known yet whom to wake for it. */
  private readonly unplacedLists = new Set<UserId>()
  /** Where the streams kept in memory began for this process: an older token has seen another process's rows. */
  readonly startedAt: StreamPositions
  /** What handlers share; absent in one process. */
  readonly shared: SharedCache | undefined
  private readonly sql: ReadSql
  private readonly replication: Replication
  private readonly rooms = new Map<number, LiveRoom>()
  private readonly roomsById = new Map<RoomId, LiveRoom>()
  /** Least recently used first. */
  private readonly users = new Map<UserId, LiveUser>()
  private readonly loading = new Map<UserId, Promise<LiveUser>>()
  private readonly loads = new Set<Load>()
  /** Also of rooms where nobody types any more: who was told that somebody does has to hear of the end, from whoever is
   *  asked next. */
  private readonly typing = new LRUCache<RoomId, { position: number; users: readonly UserId[] }>({
    ...entriesUpTo(typingRoomsMax),
  })
  private weight = 0
  private behind: { position: number; stream: keyof StreamPositions; resolve: () => void }[] = []
  private readonly memory: RoomMemory
  private readonly wakes = new Wakes()
  private readonly unsubscribe: (() => void)[]

  constructor(deps: { sql: ReadSql; replication: Replication; roomBytesMax: number }) {
    this.sql = deps.sql
    this.replication = deps.replication
    this.shared = deps.replication.cache
    this.memory = new RoomMemory(deps.roomBytesMax)
    this.startedAt = { ...deps.replication.positions() }
    this.deviceLists = new DeviceListLog(this.startedAt.device_lists)
    this.userRooms = new UserRooms(deps.sql)
    const { replication } = deps
    this.unsubscribe = [
      replication.subscribe('events', ({ rows }) => this.hear('events', rows, (row) => this.onEvent(row))),
      replication.subscribe('receipts', ({ rows }) => this.hear('receipts', rows, (row) => this.onReceipt(row))),
      replication.subscribe('account_data', ({ rows }) =>
        this.hear('account_data', rows, (row) => this.onAccountData(row)),
      ),
      replication.subscribe('to_device', ({ rows }) => this.hear('to_device', rows, (row) => this.onToDevice(row))),
      replication.subscribe('thread_subscriptions', ({ rows }) =>
        this.hear('thread_subscriptions', rows, (row) => this.onThreadSubscription(row)),
      ),
      replication.subscribe('typing', ({ rows }) => this.hear('typing', rows, (row) => this.onTyping(row))),
      replication.subscribe('presence', ({ rows }) => this.hear('presence', rows, (row) => this.onPresence(row))),
      replication.subscribe('device_lists', ({ rows }) =>
        this.hear('device_lists', rows, (row) => this.onDeviceList(row)),
      ),
      replication.subscribe('key_counts', ({ rows }) => this.hear('key_counts', rows, (row) => this.onKeyCount(row))),
      replication.subscribe('invalidations', ({ rows }) =>
        this.hear('invalidations', rows, (row) => this.onInvalidation(row)),
      ),
      liveNumber('synapse_notifier_users', 'Users whose clients sync', () => this.users.size),
      liveNumber('synapse_notifier_rooms', 'Rooms that they are joined to', () => this.rooms.size),
      liveNumber('ganglion_sync_timelines_bytes', 'What their timelines weigh', () => this.memory.size),
    ]
  }

  close(): void {
    for (const end of this.unsubscribe) end()
    for (const user of this.users.values()) {
      user.forgotten = true
      user.wake()
    }
  }

  /** The user's entry if it is there: no query, no promise. */
  peek(user_id: UserId): LiveUser | undefined {
    const user = this.users.get(user_id)
    if (!user) return undefined
    usersTally.hits++
    this.users.delete(user_id)
    this.users.set(user_id, user)
    return user
  }

  /** The user's entry, at today's positions. */
  async user(user_id: UserId): Promise<LiveUser> {
    const known = this.peek(user_id)
    if (known) return known
    const underway = this.loading.get(user_id)
    if (underway) return underway
    const loading = this.load(user_id).finally(() => this.loading.delete(user_id))
    this.loading.set(user_id, loading)
    return loading
  }

  private async load(user_id: UserId): Promise<LiveUser> {
    usersTally.misses++
    const load: Load = { events: [], receipts: [], accountData: [], toDevice: [], threadSubscriptions: [] }
    this.loads.add(load)
    try {
      const before = { ...this.replication.positions() }
      const [rooms, data, inboxes, pushClass] = await Promise.all([
        roomsOfUser(this.sql, user_id),
        userDataPositions(this.sql, user_id),
        inboxEnds(this.sql, user_id),
        pushClassOf(this.sql, user_id),
      ])
      // What was read may be ahead of what was published: one answer must not mix the two.
      let newest = 0
      let receipts = data.private_receipts
      for (const row of rooms) {
        newest = Math.max(newest, row.position, row.last_event)
        receipts = Math.max(receipts, row.last_receipt)
      }
      await Promise.all([
        this.reached('events', newest),
        this.reached('receipts', receipts),
        this.reached('account_data', data.account_data),
        this.reached('thread_subscriptions', data.thread_subscriptions),
        this.reached('to_device', Math.max(0, ...inboxes.map(({ last }) => last))),
      ])
      // From here on nothing waits: the entry and the streams agree.
      const user = new LiveUser(user_id)
      user.inboxes.load(inboxes)
      user.changesFrom = before.events
      user.accountData = data.account_data
      user.accountDataFrom = Math.max(before.account_data, data.account_data)
      user.privateReceipts = data.private_receipts
      user.privateReceiptsFrom = Math.max(before.receipts, data.private_receipts)
      user.threadSubscriptions = data.thread_subscriptions
      user.ignored = data.ignored === null ? new Set() : ignoredUsers(data.ignored)
      for (const [type, content] of Object.entries(data.invite_permission ?? {})) user.setInviteConfig(type, content)
      user.pushClass = pushClass
      if (this.replication.positions().invalidations !== before.invalidations) this.readPushClass(user)
      for (const row of rooms) {
        user.changesFrom = Math.max(user.changesFrom, row.position)
        const { room_nid, room_id, membership, position, sender, joined_at: joinedAt, left_at: leftAt } = row
        const room =
          membership === 'join'
            ? this.room(
                row,
                { event: row.last_event, receipt: row.last_receipt, joinedMembers: row.joined_members },
                load,
              )
            : undefined
        room?.users.add(user)
        user.rooms.set(room_nid, { room_nid, room_id, membership, position, sender, joinedAt, leftAt, room })
      }
      for (const row of load.events) this.applyMember(user, row)
      for (const row of load.accountData) if (row.user_id === user_id) user.addAccountData(row)
      for (const row of load.toDevice) if (row.user_id === user_id) user.inboxes.add(row)
      for (const row of load.threadSubscriptions) {
        if (row.user_id === user_id) user.threadSubscriptions = Math.max(user.threadSubscriptions, row.position)
      }
      for (const row of load.receipts) {
        if (row.user_id === user_id && row.receipt_type === 'm.read.private') user.addPrivateReceipt(row)
      }
      this.users.set(user_id, user)
      this.weight += user.rooms.size + userWeight
      this.evictUsers(user)
      return user
    } finally {
      this.loads.delete(load)
    }
  }

  /** The room's entry, made if need be; `load` holds what the streams told since its last positions were read. */
  private room(
    ref: { room_nid: number; room_id: RoomId },
    last: { event: number; receipt: number; joinedMembers: number },
    load?: Load,
  ) {
    const known = this.rooms.get(ref.room_nid)
    if (known) return known
    const room = new LiveRoom(ref, last)
    const typing = this.typing.get(ref.room_id)
    if (typing) {
      room.typing = typing.position
      room.typists = typing.users
    }
    this.rooms.set(ref.room_nid, room)
    this.roomsById.set(ref.room_id, room)
    for (const row of load?.events ?? []) if (row.room_nid === ref.room_nid) this.append(room, row)
    for (const row of load?.receipts ?? []) {
      if (row.room_nid === ref.room_nid && row.receipt_type === 'm.read') this.addReceipt(room, row)
    }
    return room
  }

  private release(user: LiveUser, room: LiveRoom): void {
    room.users.delete(user)
    if (room.users.size > 0) return
    this.rooms.delete(room.room_nid)
    this.roomsById.delete(room.room_id)
    this.memory.drop(room)
  }

  private evictUsers(except: LiveUser): void {
    if (this.weight <= membershipsMax) return
    for (const user of this.users.values()) {
      if (user === except || user.waiters.size > 0 || user.uses > 0) continue
      this.users.delete(user.user_id)
      this.weight -= user.rooms.size + userWeight
      for (const { room } of user.rooms.values()) if (room) this.release(user, room)
      if (this.weight <= membershipsMax) return
    }
  }

  /** Applies rows, then wakes: whoever is woken finds all of the update. */
  private hear<Row>(stream: keyof StreamPositions, rows: readonly Row[], apply: (row: Row) => void): void {
    for (const row of rows) apply(row)
    if (this.behind.length > 0) {
      const position = this.replication.positions()[stream]
      this.behind = this.behind.filter((waiting) => {
        if (waiting.stream !== stream || waiting.position > position) return true
        waiting.resolve()
        return false
      })
    }
  }

  private reached(stream: keyof StreamPositions, position: number): Promise<void> | undefined {
    if (this.replication.positions()[stream] >= position) return undefined
    const here = new Promise<void>((resolve) => this.behind.push({ stream, position, resolve }))
    // What was published may be lost on its way: then it is read.
    const reading = this.replication.reach?.({ [stream]: position })
    return reading ? Promise.race([here, reading.then(() => undefined)]) : here
  }

  private onEvent(row: EventRow): void {
    for (const load of this.loads) load.events.push(row)
    const room = this.rooms.get(row.room_nid)
    if (room) this.append(room, row)
    if (row.member) {
      const user = this.users.get(row.member.user_id)
      if (user) this.applyMember(user, row)
      this.presence.memberChanged(row.member, row.room_nid)
      this.userRooms.memberChanged(row.member, row.room_nid)
    }
    if (room) this.wakes.room(room)
  }

  private append(room: LiveRoom, row: EventRow): void {
    const before = room.bytes
    room.append(row)
    this.touch(room, before)
  }

  private addReceipt(room: LiveRoom, row: ReceiptRow): void {
    const before = room.bytes
    room.addReceipt(row)
    this.touch(room, before)
  }

  /** The rooms that a user is joined to, where the memory knows them. */
  joinedRoomsOf(user_id: UserId): ReadonlySet<number> | undefined {
    const known = this.presence.roomsOf(user_id)
    const user = known ? undefined : this.users.get(user_id)
    if (!user) return known ?? this.userRooms.of(user_id)
    const rooms = new Set<number>()
    for (const room of user.rooms.values()) if (room.membership === 'join') rooms.add(room.room_nid)
    return rooms
  }

  /** Tells that what the room holds was used or changed; `before` is what it weighed. */
  touch(room: LiveRoom, before = room.bytes): void {
    this.memory.touch(room, before)
  }

  private applyMember(user: LiveUser, row: EventRow): void {
    const { member } = row
    if (member?.user_id !== user.user_id) return
    const known = user.rooms.get(row.room_nid)
    if (known && known.position >= row.position) return
    let room: LiveRoom | undefined
    if (member.membership === 'join') {
      room = known?.room
      if (!room) {
        const made = !this.rooms.has(row.room_nid)
        room = this.room(row, {
          event: row.position - 1,
          receipt: this.replication.positions().receipts,
          joinedMembers: member.joined_members,
        })
        if (made) this.append(room, row)
        room.users.add(user)
      }
    }
    const size = user.rooms.size
    user.applyMember(row, member, room)
    this.weight += user.rooms.size - size
    if (!room && known?.room) this.release(user, known.room)
    this.wakes.user(user)
  }

  private onReceipt(row: ReceiptRow): void {
    for (const load of this.loads) load.receipts.push(row)
    const room = this.rooms.get(row.room_nid)
    const owner = this.users.get(row.user_id)
    if (owner) applyOwnReceipt(owner, room, row)
    if (row.receipt_type === 'm.read') {
      if (room) {
        this.addReceipt(room, row)
        this.wakes.room(room)
      }
    } else if (owner) {
      owner.addPrivateReceipt(row)
      this.wakes.user(owner)
    }
  }

  private onAccountData(row: AccountDataRow): void {
    for (const load of this.loads) load.accountData.push(row)
    const user = this.users.get(row.user_id)
    if (!user) return
    user.addAccountData(row)
    this.wakes.user(user)
  }

  private onToDevice(row: ToDeviceRow): void {
    for (const load of this.loads) load.toDevice.push(row)
    const user = this.users.get(row.user_id)
    if (!user) return
    user.inboxes.add(row)
    this.wakes.user(user)
  }

  private onThreadSubscription(row: ThreadSubscriptionRow): void {
    for (const load of this.loads) load.threadSubscriptions.push(row)
    const user = this.users.get(row.user_id)
    if (!user) return
    user.threadSubscriptions = row.position
    this.wakes.user(user)
  }

  private onTyping(row: TypingRow): void {
    this.typing.set(row.room_id, { position: row.position, users: row.user_ids })
    const room = this.roomsById.get(row.room_id)
    if (!room) return
    room.typing = row.position
    room.typists = row.user_ids
    this.wakes.room(room)
  }

  private onPresence(row: PresenceRow): void {
    this.presence.add(row)
    const known = this.presence.roomsOf(row.user_id)
    if (known) {
      this.wakeNeighbours(row.user_id, known)
      return
    }
    const joined = this.joinedRoomsOf(row.user_id)
    if (joined) {
      this.presence.setRooms(row.user_id, new Set(joined))
      this.wakeNeighbours(row.user_id, joined)
      return
    }
    this.placePresence().catch(() => {
      // Who waits is answered by the next thing that happens; the request that needs the rooms reads them, and fails then.
    })
  }

  /** Reads the rooms of users whose presence is known and whose rooms are not. */
  async placePresence(): Promise<void> {
    const unplaced = [...this.presence.unplaced()]
    if (unplaced.length === 0) return
    const ticket = this.presence.startPlacing(unplaced)
    const rooms = await joinedRoomsOf(this.sql, unplaced)
    for (const [user, joined] of this.presence.finishPlacing(ticket, rooms)) this.wakeNeighbours(user, joined)
  }

  private wakeNeighbours(user_id: UserId, rooms: ReadonlySet<number>): void {
    for (const nid of rooms) {
      const room = this.rooms.get(nid)
      if (room) this.wakes.room(room)
    }
    const user = this.users.get(user_id)
    if (user) this.wakes.user(user)
  }

  private onDeviceList(row: DeviceListRow): void {
    this.deviceLists.add(row)
    const eyes = this.users.get(row.viewer ?? row.user_id)
    if (eyes) this.wakes.user(eyes)
    if (row.viewer !== undefined) return
    const rooms = this.joinedRoomsOf(row.user_id)
    if (rooms) {
      this.wakeNeighbours(row.user_id, rooms)
      return
    }
    if (this.unplacedLists.size === 0) setImmediate(() => this.placeLists())
    this.unplacedLists.add(row.user_id)
  }

  /** Reads the rooms of whose lists changed in this turn of the event loop, and wakes who shares one. */
  private placeLists(): void {
    const users = [...this.unplacedLists]
    this.unplacedLists.clear()
    Promise.resolve(this.userRooms.read(users)).then(
      () => {
        for (const user of users) this.wakeNeighbours(user, this.userRooms.of(user) ?? new Set())
      },
      () => {
        // Who waits is answered by the next thing that happens; the request that needs the rooms reads them, and fails then.
      },
    )
  }

  private onKeyCount(row: KeyCountRow): void {
    const user = this.users.get(row.user_id)
    if (!user) return
    user.keyCounts.get(row.device_id)?.moved(row.position)
    this.wakes.user(user)
  }

  private onInvalidation(row: InvalidationRow): void {
    if (row.cache === 'event') {
      for (const room of this.memory.rooms()) {
        const before = room.bytes
        if (!room.forgetEvent(row.key)) continue
        this.touch(room, before)
        return
      }
    } else if (row.cache === 'room') {
      const room = this.roomsById.get(row.key as RoomId)
      if (room) {
        this.memory.drop(room)
        room.forget()
      }
      this.userRooms.forget()
      this.compareMembers(row.key as RoomId).catch(() => {
        // What cannot be compared may be wrong.
        for (const user of this.users.values()) this.forgetUser(user)
      })
    } else if (row.cache === 'push_rules') {
      const user = this.users.get(row.key as UserId)
      if (!user) return
      this.readPushClass(user)
    } else if (row.cache === 'user_tokens') {
      // Keys go with their devices.
      for (const counts of this.users.get(row.key as UserId)?.keyCounts.values() ?? []) counts.forget()
    }
  }

  private readPushClass(user: LiveUser): void {
    const reading = pushClassOf(this.sql, user.user_id).then(
      (pushClass) => {
        // Changed once more meanwhile: what is read for that change holds.
        if (user.pushClassRead !== reading) return
        user.pushClassRead = undefined
        if (pushClass !== user.pushClass) user.unread.clear()
        user.pushClass = pushClass
      },
      () => {
        if (user.pushClassRead === reading) user.pushClassRead = undefined
        this.forgetUser(user)
      },
    )
    user.pushClassRead = reading
  }

  /** Where state was resolved anew, memberships may have changed without an event: those users are read anew. */
  private async compareMembers(room_id: RoomId): Promise<void> {
    const load: Load = { events: [], receipts: [], accountData: [], toDevice: [], threadSubscriptions: [] }
    this.loads.add(load)
    try {
      const found = await localMemberships(this.sql, room_id)
      if (!found) return
      const moved = new Set(
        load.events.flatMap((row) => (row.room_nid === found.room_nid ? (row.member?.user_id ?? []) : [])),
      )
      for (const user of this.users.values()) {
        const known = user.rooms.get(found.room_nid)
        const stored = found.memberships.get(user.user_id)
        if (moved.has(user.user_id)) continue
        if (known?.membership !== stored?.membership || known?.position !== stored?.position) this.forgetUser(user)
      }
    } finally {
      this.loads.delete(load)
    }
  }

  /** What could not be brought up to date is read anew by the next request. */
  private forgetUser(user: LiveUser): void {
    if (!this.users.delete(user.user_id)) return
    user.forgotten = true
    this.weight -= user.rooms.size + userWeight
    for (const { room } of user.rooms.values()) if (room) this.release(user, room)
    user.wake()
  }
}
