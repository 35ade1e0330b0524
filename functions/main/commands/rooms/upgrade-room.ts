/** Replacing a room by one of another version: both rooms' events in one commit.
 *  https://spec.matrix.org/v1.19/client-server-api/#room-upgrades */
import type { MainClient } from '../../../../shared/commands/registry.ts'
import { actionLevel, levelFrom, powerLevelOf, requiredLevel } from '../../../../shared/core/power-levels.ts'
import type { RoomRules } from '../../../../shared/core/room-versions.ts'
import type { EventId, UserId } from '../../../../shared/matrix/ids.ts'
import { isJsonObject, type JsonObject } from '../../../../shared/matrix/json-value.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import { answered } from '../../command-call.ts'
import type { PreparedRoom, RoomTask } from '../../rooms/engine.ts'
import { ensureLoaded } from '../../rooms/load-room.ts'
import { authStateOf, membershipOf, type Room, type StateKey, statePdu } from '../../rooms/room.ts'
import { checkedCreators, creationOf, member, startRoom, state, versionRules } from './create-room.ts'
import { profileOf } from './profiles.ts'
import type { RoomCommandDeps } from './room-command-deps.ts'

/** State that the replacement takes over, as the specification recommends. */
const copiedTypes = [
  'm.room.server_acl',
  'm.room.encryption',
  'm.room.name',
  'm.room.avatar',
  'm.room.topic',
  'm.room.guest_access',
  'm.room.history_visibility',
  'm.room.join_rules',
  'm.room.pinned_events',
  'm.room.related_groups',
  'm.room.policy',
]

export function upgradeRoomHandler(deps: RoomCommandDeps): MainClient['upgradeRoom'] {
  return async (request) => {
    const { room_id, user_id } = request
    const rules = versionRules(request.new_version)
    const creators = rules.creatorsHaveInfinitePower ? checkedCreators(request.additional_creators) : []
    const upgraded = await deps.engine.tryRun(room_id, 'upgrade', async (old) => {
      const prepared = await upgrade(deps, old, { rules, user_id, creators: creators.filter((id) => id !== user_id) })
      old.write(prepared.writes())
      old.write(answered({ replacement_room: prepared.room.room_id }))
      return prepared
    })
    if (!upgraded) throw new MatrixError('M_FORBIDDEN', 'You are not in this room')
    upgraded.adopted()
    await deps.settingsFollow(user_id, upgraded.room.room_id)
    return { replacement_room: upgraded.room.room_id }
  }
}

interface Upgrade {
  readonly rules: RoomRules
  readonly user_id: UserId
  readonly creators: readonly UserId[]
}

async function upgrade(deps: RoomCommandDeps, old: RoomTask, wish: Upgrade): Promise<PreparedRoom> {
  const { room } = old
  const { rules, user_id, creators } = wish
  await ensureLoaded(deps.sql, room, keysToLoad(room))
  checkMayUpgrade(room, user_id)
  const [listed] = await deps.sql<{ published: boolean }[]>`
    select published from rooms where room_nid = ${room.room_nid}`

  const created = statePdu(room, 'm.room.create', '')?.content ?? {}
  const last = room.extremities[0]?.event_id
  const prepared = await startRoom(deps, rules, {
    creator: user_id,
    creation: creationOf(rules, user_id, {
      ...copiedCreation(created),
      predecessor: { room_id: room.room_id, ...predecessorEvent(rules, last) },
      ...(creators.length > 0 ? { additional_creators: [...creators] } : undefined),
    }),
    published: listed?.published === true,
  })
  await prepared.append(member(user_id, user_id, { ...(await profileOf(deps.sql, user_id)), membership: 'join' }))
  await copyState(room, prepared, wish)

  await old.append(
    state(user_id, 'm.room.tombstone', {
      body: 'This room has been replaced',
      replacement_room: prepared.room.room_id,
    }),
  )
  await moveAliases(old, prepared, user_id)
  await restrict(old, user_id)
  return prepared
}

function keysToLoad(room: Room): StateKey[] {
  const keys: StateKey[] = [
    ['m.room.power_levels', ''],
    ['m.room.canonical_alias', ''],
    ...copiedTypes.map((type): StateKey => [type, '']),
  ]
  for (const [key, entry] of room.state) {
    if (entry.membership === 'ban') keys.push(['m.room.member', key.slice('m.room.member\0'.length)])
    if (key.startsWith('m.space.child\0')) keys.push(['m.space.child', key.slice('m.space.child\0'.length)])
  }
  return keys
}

function checkMayUpgrade(room: Room, user_id: UserId): void {
  if (membershipOf(room, user_id) !== 'join') throw new MatrixError('M_FORBIDDEN', 'You are not in this room')
  const state = authStateOf(room)
  if (powerLevelOf(room.rules, state, user_id) < requiredLevel(room.rules, state, 'm.room.tombstone', true)) {
    throw new MatrixError('M_FORBIDDEN', 'You do not have the power to upgrade this room')
  }
}

function copiedCreation(created: JsonObject): JsonObject {
  const { creator: _creator, room_version: _version, predecessor: _old, additional_creators: _more, ...rest } = created
  return rest
}

/** https://spec.matrix.org/v1.19/client-server-api/#mroomcreate: `event_id` is of versions before 12. */
function predecessorEvent(rules: RoomRules, last: EventId | undefined): JsonObject {
  return rules.roomIdIsCreateHash || last === undefined ? {} : { event_id: last }
}

async function copyState(room: Room, to: PreparedRoom, wish: Upgrade): Promise<void> {
  const { user_id } = wish
  const levels = newPowerLevels(room, wish)
  // The upgrader needs the power to set what is copied, even where the old room gave them less.
  const temporary = withEnoughPower(levels, wish)
  await to.append(state(user_id, 'm.room.power_levels', temporary ?? levels))
  for (const type of copiedTypes) {
    const pdu = statePdu(room, type, '')
    if (pdu && Object.keys(pdu.content).length > 0) await to.append(state(user_id, type, pdu.content))
  }
  const bans: [UserId, JsonObject][] = []
  for (const [key, entry] of room.state) {
    if (key.startsWith('m.space.child\0') && entry.loaded && Object.keys(entry.loaded.pdu.content).length > 0) {
      await to.append(state(user_id, 'm.space.child', entry.loaded.pdu.content, entry.loaded.pdu.state_key))
    }
    if (entry.membership === 'ban' && entry.loaded) {
      bans.push([entry.loaded.pdu.state_key as UserId, entry.loaded.pdu.content])
    }
  }
  for (const [target, content] of bans) await to.append(member(user_id, target, content))
  if (temporary) await to.append(state(user_id, 'm.room.power_levels', levels))
}

/** The old room's levels as the new version can have them: creators are not listed, levels are integers, and the
 *  tombstone asks for more than state does. */
function newPowerLevels(room: Room, { rules, user_id, creators }: Upgrade): JsonObject {
  const old = statePdu(room, 'm.room.power_levels', '')?.content ?? {}
  const content: JsonObject = {}
  for (const [key, value] of Object.entries(old)) {
    if (isJsonObject(value)) {
      const levels: JsonObject = {}
      for (const [name, level] of Object.entries(value)) levels[name] = levelFrom(room.rules, level) ?? level
      content[key] = levels
    } else content[key] = levelFrom(room.rules, value) ?? value
  }
  const users = isJsonObject(content.users) ? content.users : {}
  content.users = users
  if (room.rules.creatorsHaveInfinitePower && !rules.creatorsHaveInfinitePower) users[user_id] ??= 100
  if (!rules.creatorsHaveInfinitePower) return content
  for (const creator of [user_id, ...creators]) delete users[creator]
  const events = isJsonObject(content.events) ? content.events : {}
  const state_default = typeof content.state_default === 'number' ? content.state_default : 50
  const tombstone = typeof events['m.room.tombstone'] === 'number' ? events['m.room.tombstone'] : 0
  content.events = { ...events, 'm.room.tombstone': Math.max(tombstone, 150, state_default + 1) }
  return content
}

/** Levels under which the upgrader can set up the room; undefined where the lasting ones do. */
function withEnoughPower(levels: JsonObject, { rules, user_id }: Upgrade): JsonObject | undefined {
  if (rules.creatorsHaveInfinitePower) return undefined
  const needed = Math.max(
    50,
    ...[levels.state_default, levels.ban, ...Object.values(isJsonObject(levels.events) ? levels.events : {})].filter(
      (level) => typeof level === 'number',
    ),
  )
  const users = isJsonObject(levels.users) ? levels.users : {}
  const own = users[user_id] ?? levels.users_default
  if (typeof own === 'number' && own >= needed) return undefined
  return { ...levels, users: { ...users, [user_id]: needed } }
}

/** The local aliases point to the new room, and its canonical alias is the old room's. */
async function moveAliases(old: RoomTask, to: PreparedRoom, user_id: UserId): Promise<void> {
  const { room } = old
  const shown = statePdu(room, 'm.room.canonical_alias', '')?.content
  if (shown && Object.keys(shown).length > 0) {
    const state = authStateOf(room)
    const may =
      powerLevelOf(room.rules, state, user_id) >= requiredLevel(room.rules, state, 'm.room.canonical_alias', true)
    if (may) {
      await old.append({ type: 'm.room.canonical_alias', state_key: '', sender: user_id, content: {} })
      await to.append({ type: 'm.room.canonical_alias', state_key: '', sender: user_id, content: shown })
    }
  }
  const { room_nid } = to.room
  old.write({
    also: (tx) => [
      tx`update room_aliases set room_nid = ${room_nid} where room_nid = ${room.room_nid}`,
      tx`update rooms set published = false where room_nid = ${room.room_nid}`,
    ],
    invalidations: [{ cache: 'room', key: room.room_id }],
  })
}

/** Nobody without power goes on talking in the old room, or brings others in. */
async function restrict(old: RoomTask, user_id: UserId): Promise<void> {
  const { room } = old
  const state = authStateOf(room)
  const own = powerLevelOf(room.rules, state, user_id)
  if (own < requiredLevel(room.rules, state, 'm.room.power_levels', true)) return
  const before = statePdu(room, 'm.room.power_levels', '')?.content ?? {}
  const restricted = Math.max(50, (levelFrom(room.rules, before.users_default) ?? 0) + 1)
  const content: JsonObject = { ...before }
  for (const key of ['events_default', 'invite'] as const) {
    if (actionLevel(room.rules, state, key) < restricted) content[key] = restricted
  }
  if (own < restricted || (content.events_default === before.events_default && content.invite === before.invite)) return
  await old.append({ type: 'm.room.power_levels', state_key: '', sender: user_id, content })
}
