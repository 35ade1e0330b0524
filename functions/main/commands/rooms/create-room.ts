/** Making a room: all its first events in one commit.
 *  https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3createroom */
import { randomBytes } from 'node:crypto'
import * as v from 'valibot'
import type { RequestOf } from '../../../../shared/commands/define.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { roomCommands } from '../../../../shared/commands/rooms.ts'
import { type RoomRules, rulesOf } from '../../../../shared/core/room-versions.ts'
import { RoomAlias, type RoomId, ServerName, serverNameOf, UserId } from '../../../../shared/matrix/ids.ts'
import type { JsonObject } from '../../../../shared/matrix/json-value.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import { isUserId } from '../../../../shared/matrix/user-id.ts'
import { pgText } from '../../../../shared/storage/sql.ts'
import { answered } from '../../command-call.ts'
import { isUniqueViolation } from '../../persist/commit-connection.ts'
import type { Writes } from '../../persist/writes.ts'
import type { Draft } from '../../rooms/append.ts'
import type { PreparedRoom } from '../../rooms/engine.ts'
import { emptyRoom } from '../../rooms/room.ts'
import { isAliasTaken } from './alias-reads.ts'
import { replacesRoom } from './carry-over.ts'
import { checkContent, checkPowerLevels } from './event-checks.ts'
import { checkInvitees, isInvite } from './invitees.ts'
import { profilesOf } from './profiles.ts'
import type { RoomCommandDeps } from './room-command-deps.ts'

type Request = RequestOf<(typeof roomCommands)['createRoom']>
type Preset = NonNullable<Request['preset']>

const presets: Record<Preset, { join_rule: string; guest_access: string; invite: number; inviteesRule: boolean }> = {
  private_chat: { join_rule: 'invite', guest_access: 'can_join', invite: 0, inviteesRule: false },
  trusted_private_chat: { join_rule: 'invite', guest_access: 'can_join', invite: 0, inviteesRule: true },
  public_chat: { join_rule: 'public', guest_access: 'forbidden', invite: 50, inviteesRule: false },
}

export function createRoomHandler(deps: RoomCommandDeps): MainClient['createRoom'] {
  const { sql, engine } = deps
  return async (request) => {
    const { user_id: creator } = request
    const rules = versionRules(request.room_version ?? deps.config.rooms.default_version)
    const invitees = [...new Set(request.invite ?? [])]
    const isLocal = (user: UserId) => serverNameOf(user) === deps.serverName
    const unaware = await checkInvitees(deps, creator, invitees)
    const alias = request.room_alias_name === undefined ? undefined : aliasOf(request.room_alias_name, deps.serverName)
    const published = request.visibility === 'public' && mayPublish(deps)
    const preset = presets[request.preset ?? (request.visibility === 'public' ? 'public_chat' : 'private_chat')]
    const creation = creationContent(rules, request, preset.inviteesRule ? invitees : [])
    const [profiles, taken] = await Promise.all([
      profilesOf(sql, [creator, ...invitees]),
      alias && isAliasTaken(sql, alias),
    ])
    if (taken) throw aliasInUse(alias)

    const task = await startRoom(deps, rules, { creator, creation, published })
    const { room } = task
    await task.append(member(creator, creator, { ...profiles.get(creator), membership: 'join' }))
    const levels = powerLevels(rules, creator, preset, invitees, request.power_level_content_override)
    checkPowerLevels(room, levels)
    await task.append(state(creator, 'm.room.power_levels', levels))
    try {
      const byStateAlone = invitedByState(request)
      const remote = byStateAlone.find((user) => !isLocal(user))
      if (remote) throw new MatrixError('M_FORBIDDEN', `${remote} is on another server: invite them by \`invite\``)
      const byState = await checkInvitees(deps, creator, byStateAlone)
      for (const draft of laterState(request, preset, alias)) {
        if (draft.type !== 'm.room.canonical_alias' || draft.content.alias !== alias)
          await checkContent(deps, room, draft)
        await task.append({ ...draft, unnoticed: isInvite(draft) && byState.has(draft.state_key as UserId) })
      }
    } catch (error) {
      if (error instanceof MatrixError && error.errcode === 'M_FORBIDDEN') {
        throw new MatrixError('M_INVALID_ROOM_STATE', `The room's initial state is not allowed: ${error.message}`)
      }
      throw error
    }
    const direct = request.is_direct ? { is_direct: true } : undefined
    for (const invitee of invitees.filter(isLocal)) {
      const content = { ...profiles.get(invitee), ...direct, membership: 'invite' }
      await task.append({ ...member(creator, invitee, content), unnoticed: unaware.has(invitee) })
    }
    if (alias) task.write(aliasWrite(alias, room.room_nid, creator))
    task.write(answered({ room_id: room.room_id }))
    await engine.createPrepared(task).catch((error: unknown) => {
      throw isUniqueViolation(error, 'room_aliases_pkey') ? aliasInUse(alias) : error
    })
    if (replacesRoom(room)) await deps.settingsFollow(creator, room.room_id)
    await inviteOthers(deps, room.room_id, creator, {
      users: invitees.filter((user) => !isLocal(user)),
      content: { ...direct },
    })
    return { room_id: room.room_id }
  }
}

/** Users of other servers, once there is a room. One that can not be invited does not undo it. */
async function inviteOthers(
  deps: RoomCommandDeps,
  room_id: RoomId,
  user_id: UserId,
  { users, content }: { readonly users: readonly UserId[]; readonly content: JsonObject },
): Promise<void> {
  for (const target of users) {
    await deps.inviteOther({ room_id, user_id, target, action: 'invite', content }).catch((error: unknown) => {
      if (!(error instanceof MatrixError)) throw error
    })
  }
}

export function versionRules(version: string): RoomRules {
  const rules = rulesOf(version)
  if (!rules)
    throw new MatrixError('M_UNSUPPORTED_ROOM_VERSION', `This server does not support room version ${version}`)
  return rules
}

/** A room in memory with its create event. */
export async function startRoom(
  deps: RoomCommandDeps,
  rules: RoomRules,
  options: { readonly creator: UserId; readonly creation: JsonObject; readonly published: boolean },
): Promise<PreparedRoom> {
  const { creator, creation, published } = options
  const room_nid = await deps.nids.next()
  // Where the room id is the create event's hash, that event gives it.
  const opaque = `!${randomBytes(14).toString('base64url').replaceAll(/[-_]/g, 'x')}:${deps.serverName}` as RoomId
  const task = deps.engine.prepare(emptyRoom(room_nid, opaque, rules))
  const { pdu } = await task.append({
    ...state(creator, 'm.room.create', creation),
    origin_server_ts: deps.creationTs(),
  })
  task.write({
    rooms: [
      {
        room_nid,
        room_id: pdu.room_id,
        room_version: rules.version,
        creator,
        created_ts: pdu.origin_server_ts,
        published,
      },
    ],
  })
  return task
}

export function state(
  sender: UserId,
  type: string,
  content: JsonObject,
  state_key = '',
): Draft & { state_key: string } {
  return { type, state_key, sender, content }
}

export function member(sender: UserId, target: UserId, content: JsonObject): Draft {
  return { type: 'm.room.member', state_key: target, sender, content }
}

function aliasOf(localpart: string, serverName: ServerName): RoomAlias {
  const alias = `#${localpart}:${serverName}`
  if (localpart === '' || /[:\s\0]/.test(localpart) || !v.is(RoomAlias, alias)) {
    throw new MatrixError('M_INVALID_PARAM', 'room_alias_name is not the local part of an alias')
  }
  return alias as RoomAlias
}

export function aliasInUse(alias: string | undefined): MatrixError {
  return new MatrixError('M_ROOM_IN_USE', `The alias ${alias} is taken`)
}

export function aliasWrite(alias: RoomAlias, room_nid: number, creator: UserId): Writes {
  return {
    also: (tx) => [
      tx`insert into room_aliases (alias, room_nid, creator) values (${pgText(alias)}, ${room_nid}, ${creator})`,
    ],
  }
}

function mayPublish(deps: RoomCommandDeps): boolean {
  if (deps.config.rooms.publish_public) return true
  throw new MatrixError('M_FORBIDDEN', 'Rooms cannot be published on this server')
}

function creationContent(rules: RoomRules, request: Request, powerfulInvitees: readonly UserId[]): JsonObject {
  const { creator: _creator, room_version: _version, ...content } = request.creation_content ?? {}
  if (rules.creatorsHaveInfinitePower) {
    const additional = checkedCreators(content.additional_creators)
    const all = new Set([...additional, ...powerfulInvitees])
    all.delete(request.user_id)
    if (all.size > 0) content.additional_creators = [...all]
  }
  return creationOf(rules, request.user_id, content)
}

/** Adds what the room version says of its creation. */
export function creationOf(rules: RoomRules, creator: UserId, content: JsonObject): JsonObject {
  return { ...content, ...(rules.implicitRoomCreator ? undefined : { creator }), room_version: rules.version }
}

/** https://spec.matrix.org/v1.19/rooms/v12/#authorization-rules, 1.4 */
export function checkedCreators(value: unknown): UserId[] {
  if (value === undefined) return []
  const isCreatorId = (item: unknown) => v.is(UserId, item) && v.is(ServerName, serverNameOf(item))
  if (!Array.isArray(value) || !value.every(isCreatorId)) {
    throw new MatrixError('M_INVALID_PARAM', 'additional_creators must be a list of user ids')
  }
  return value as UserId[]
}

function powerLevels(
  rules: RoomRules,
  creator: UserId,
  preset: (typeof presets)[Preset],
  invitees: readonly UserId[],
  override: Request['power_level_content_override'],
): JsonObject {
  const users: JsonObject = {}
  if (!rules.creatorsHaveInfinitePower) {
    users[creator] = 100
    if (preset.inviteesRule) for (const invitee of invitees) users[invitee] = 100
  }
  return {
    users,
    users_default: 0,
    events: {
      'm.room.name': 50,
      'm.room.power_levels': 100,
      'm.room.history_visibility': 100,
      'm.room.canonical_alias': 50,
      'm.room.avatar': 50,
      'm.room.tombstone': rules.creatorsHaveInfinitePower ? 150 : 100,
      'm.room.server_acl': 100,
      'm.room.encryption': 100,
    },
    events_default: 0,
    state_default: 50,
    ban: 50,
    kick: 50,
    redact: 50,
    invite: preset.invite,
    ...override,
  }
}

/** Users whom the state that is asked for invites. */
function invitedByState({ initial_state = [] }: Request): UserId[] {
  return initial_state.flatMap((event) => (isInvite(event) && isUserId(event.state_key) ? [event.state_key] : []))
}

/** State after the power levels, in the specification's order; what a later key of the request replaces is left out. */
function laterState(
  request: Request,
  preset: (typeof presets)[Preset],
  alias: RoomAlias | undefined,
): (Draft & { state_key: string })[] {
  const by = request.user_id
  const initial = (request.initial_state ?? []).map((event) =>
    state(by, event.type, event.content, event.state_key ?? ''),
  )
  const sets = (type: string) => initial.some((draft) => draft.type === type && draft.state_key === '')
  const drafts: (Draft & { state_key: string })[] = []
  if (alias) drafts.push(state(by, 'm.room.canonical_alias', { alias }))
  if (!sets('m.room.join_rules')) drafts.push(state(by, 'm.room.join_rules', { join_rule: preset.join_rule }))
  if (!sets('m.room.history_visibility')) {
    drafts.push(state(by, 'm.room.history_visibility', { history_visibility: 'shared' }))
  }
  // Without it guests are kept out, as where it says so.
  if (preset.guest_access === 'can_join' && !sets('m.room.guest_access'))
    drafts.push(state(by, 'm.room.guest_access', { guest_access: preset.guest_access }))
  const replaced = new Set<string>()
  if (request.name !== undefined) replaced.add('m.room.name')
  if (request.topic !== undefined) replaced.add('m.room.topic')
  drafts.push(...initial.filter((draft) => !(draft.state_key === '' && replaced.has(draft.type))))
  if (request.name !== undefined) drafts.push(state(by, 'm.room.name', { name: request.name }))
  if (request.topic !== undefined) {
    const { topic } = request
    drafts.push(state(by, 'm.room.topic', { topic, 'm.topic': { 'm.text': [{ body: topic }] } }))
  }
  return drafts
}
