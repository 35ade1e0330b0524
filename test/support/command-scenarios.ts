/** Every command, as somebody would send it: what has to be there before, and its request. */
import { hash } from 'node:crypto'

import { createLinkTokens } from '../../functions/main/link-tokens.ts'
import { renewalMeaning, threepidMeaning } from '../../functions/main/outbox/messages.ts'
import { tokenHash } from '../../shared/auth/tokens.ts'
import type { MediaId } from '../../shared/commands/media.ts'
import type { MainClient } from '../../shared/commands/registry.ts'
import { shardOf } from '../../shared/commands/shards.ts'
import type { UrlPreviewKey } from '../../shared/commands/url-previews.ts'
import { rulesOf } from '../../shared/core/room-versions.ts'
import { buildEvent, type EventDraft } from '../../shared/matrix/event-format.ts'
import type { DeviceId, EventId, RoomAlias, RoomId, ServerName, UserId } from '../../shared/matrix/ids.ts'
import { generateSigningKey, type SigningKey, signJson } from '../../shared/matrix/signatures.ts'
import { newObjectKey } from '../../shared/media/store.ts'
import type { MainSql } from '../../shared/storage/sql.ts'
import type { StreamPosition } from '../../shared/streams/define.ts'

export type CommandName = keyof MainClient
type Request<Name extends CommandName> = Parameters<MainClient[Name]>[0]

/** Makes what the command needs, by way of `main`, and gives its request. Two calls give requests that do not meet. */
export type Scenarios = { readonly [Name in CommandName]: () => Promise<Request<Name>> }

export const password = 'superuser'

/** What the scenarios need of the configuration of main. */
export const scenarioConfig = {
  account_validity: { enabled: true },
  policies: {
    documents: [
      {
        id: 'terms',
        version: '1',
        translations: [{ language: 'en', name: 'Terms', url: 'https://hs1/terms' }],
      },
    ],
  },
}

export function commandScenarios(main: MainClient, signingKey: SigningKey): Scenarios {
  const links = createLinkTokens(signingKey)
  let count = 0
  const next = () => `n${++count}`
  const previewKey = () => next().slice(1).padStart(64, '0') as UrlPreviewKey

  async function user(): Promise<{ user_id: UserId; device_id: DeviceId; access_token: string }> {
    const { session } = await main.register({
      user_id: `@${next()}:hs1` as UserId,
      password,
      kind: 'user',
      admin: false,
      session: { refreshable: false },
    })
    if (!session) throw new Error('no session')
    return session
  }
  async function room(preset: 'public_chat' | 'private_chat' = 'public_chat') {
    const { user_id } = await user()
    const { room_id } = await main.createRoom({ user_id, preset })
    return { user_id, room_id }
  }
  async function joined(room_id: RoomId): Promise<UserId> {
    const { user_id } = await user()
    await main.changeMembership({ room_id, user_id, target: user_id, action: 'join' })
    return user_id
  }
  async function message(room_id: RoomId, user_id: UserId): Promise<EventId> {
    return (await main.sendEvent({ room_id, user_id, type: 'm.room.message', content: { body: 'x' } })).event_id
  }
  async function refreshable() {
    const { user_id } = await user()
    const session = await main.login({
      credentials: { type: 'm.login.password', user_id, password },
      session: { refreshable: true },
    })
    return { ...session, refresh_token: String(session.refresh_token) }
  }

  function dehydrated(user_id: UserId): Request<'putDehydratedDevice'> {
    const device_id = 'DRY' as DeviceId
    const device_keys = JSON.stringify({ user_id, device_id, algorithms: [], keys: {}, signatures: {} })
    const keys = { device_keys, one_time_keys: [oneTimeKey('a')], fallback_keys: [oneTimeKey('f')] }
    return { user_id, device_id, device_data: { algorithm: 'a' }, ...keys }
  }
  const pusher = {
    app_id: 'org.app',
    pushkey: 'key',
    kind: 'http',
    app_display_name: 'App',
    device_display_name: 'Phone',
    lang: 'en',
    data: { url: 'https://gateway.hs1/_matrix/push/v1/notify' },
    append: false,
  } as const
  async function delayed() {
    const at = await room()
    const request = { ...at, type: 'm.x', content: { n: next() }, delay_ms: 60_000 }
    return { ...at, ...(await main.scheduleDelayedEvent(request)) }
  }
  const roomKey = {
    room_id: '!r:hs1' as RoomId,
    session_id: 's',
    first_message_index: 1,
    forwarded_count: 0,
    is_verified: false,
    session_data: {},
  }
  async function backup() {
    const { user_id } = await user()
    const version = Number((await main.createRoomKeyVersion({ user_id, algorithm: 'a', auth_data: {} })).version)
    await main.putRoomKeys({ user_id, version, keys: [roomKey] })
    return { user_id, version }
  }

  function outsideEvent(room_id: RoomId, user_id: UserId, membership: string) {
    const { pdu, envelope, content } = buildEvent(
      rulesOf('11')!,
      {
        room_id,
        type: 'm.room.member',
        state_key: user_id,
        sender: '@bob:hs2' as UserId,
        content: { membership },
        prev_events: ['$previous' as EventId],
        auth_events: [],
        depth: 10,
        origin_server_ts: 1,
      },
      'hs2' as ServerName,
      generateSigningKey('a'),
    )
    return { event_id: pdu.event_id, envelope, content }
  }
  async function invitation() {
    const { user_id } = await user()
    const room_id = `!${next()}:hs2` as RoomId
    const origin = 'hs2' as ServerName
    const event = outsideEvent(room_id, user_id, 'invite')
    return { user_id, request: { room_id, room_version: '11', origin, event, stripped: [] } }
  }

  const medium = () => ({ origin: 'hs1' as ServerName, media_id: next() as MediaId })
  async function reservedObject() {
    const object_key = newObjectKey()
    await main.reserveMediaObject({ object_key, size: 10 })
    return object_key
  }
  async function storedObject(name: ReturnType<typeof medium>) {
    const written = { object_key: await reservedObject(), sha256: hashOf(name.media_id), size: 5 }
    await main.completeMedia({ ...name, ...written, kind: 'upload', ahead: false, content_type: 'image/png' })
    return written.object_key
  }
  async function storedMedium() {
    const name = medium()
    await storedObject(name)
    return name
  }
  async function threepidSession(purpose: 'add' | 'reset' | 'register' = 'add') {
    const asked = {
      purpose,
      medium: 'email',
      address: `${next()}@mail.hs1`,
      client_secret: 'c',
      send_attempt: 1,
    } as const
    return { sid: (await main.requestThreepidToken(asked)).sid, client_secret: asked.client_secret }
  }
  async function userWithAddress() {
    const threepid = { medium: 'email', address: `${next()}@mail.hs1`, validated_ts: 1 } as const
    const user_id = `@${next()}:hs1` as UserId
    await main.register({ user_id, kind: 'user', admin: false, threepids: [threepid] })
    return { user_id, ...threepid }
  }

  return {
    requestThreepidToken: async () => ({
      purpose: 'register',
      medium: 'email',
      address: `${next()}@mail.hs1`,
      client_secret: 'c',
      send_attempt: 1,
    }),
    async submitThreepidToken() {
      const { sid } = await threepidSession()
      return { sid, token: links.of(threepidMeaning(sid)) }
    },
    async addThreepid() {
      const { user_id } = await user()
      const creds = await threepidSession()
      await main.submitThreepidToken({ ...creds, token: links.of(threepidMeaning(creds.sid)) })
      return { user_id, creds }
    },
    async deleteThreepid() {
      const { user_id, medium, address } = await userWithAddress()
      return { user_id, medium, address }
    },
    createConsentToken: async () => ({ user_id: (await user()).user_id }),
    async giveConsent() {
      const { user_id } = await user()
      return { user_id, token: (await main.createConsentToken({ user_id })).token, consent: 'terms/1' }
    },
    async agreeAtRegistration() {
      const flows = [['m.login.terms']]
      const { session } = await main.authenticateInteractively({ operation: 'register under terms/1', flows })
      return { session: String(session) }
    },
    sendRenewalMail: async () => ({ user_id: (await userWithAddress()).user_id }),
    async renewAccount() {
      const { user_id } = await user()
      const { expires_ts } = await main.setAccountValidity({ user_id, expires_ts: Date.now() + 1_000_000 })
      return { user_id, token: links.of(renewalMeaning(user_id, expires_ts)) }
    },
    setAccountValidity: async () => ({ user_id: (await user()).user_id }),
    register: async () => ({
      user_id: `@${next()}:hs1` as UserId,
      password,
      kind: 'user',
      admin: false,
      displayname: 'New',
      session: { refreshable: true },
    }),
    async login() {
      const { user_id } = await user()
      const { login_token } = await main.createLoginToken({ user_id })
      return { credentials: { type: 'm.login.token', token: login_token }, session: { refreshable: true } }
    },
    createOpenIdToken: async () => ({ user_id: (await user()).user_id }),
    async setPusher() {
      const { user_id, device_id } = await user()
      return { ...pusher, user_id, device_id }
    },
    async deletePusher() {
      const { user_id, device_id } = await user()
      await main.setPusher({ ...pusher, user_id, device_id })
      return { user_id, app_id: pusher.app_id, pushkey: pusher.pushkey }
    },
    async sendServerNotice() {
      const { user_id } = await user()
      return { user_id, type: 'm.room.message', content: { body: 'Closing at six' }, txn_id: 'notice' }
    },
    async claimUrlPreview() {
      return { key: previewKey(), claim: next(), lifetime_ms: 60_000 }
    },
    async storeUrlPreview() {
      const request = { key: previewKey(), claim: next(), lifetime_ms: 60_000 }
      await main.claimUrlPreview(request)
      return { ...request, answer: '{}' }
    },
    async scheduleDelayedEvent() {
      return { ...(await room()), type: 'm.x', content: { n: next() }, delay_ms: 60_000 }
    },
    async updateDelayedEvent() {
      const { delay_id, user_id } = await delayed()
      return { delay_id, user_id, action: 'cancel' }
    },
    async sendDelayedEvent() {
      const { delay_id, room_id } = await delayed()
      return { delay_id, room_id }
    },
    async setAccountStatus() {
      return { user_id: (await user()).user_id, locked: true, suspended: true }
    },
    createRegistrationToken: async () => ({ token: next(), uses_allowed: 1 }),
    async updateRegistrationToken() {
      const { token } = await main.createRegistrationToken({ token: next() })
      return { token, uses_allowed: 3 }
    },
    async deleteRegistrationToken() {
      const { token } = await main.createRegistrationToken({ token: next() })
      return { token }
    },
    async fileReport() {
      const { room_id, user_id } = await room()
      return { reporter: user_id, about: { kind: 'room', room_id }, reason: 'unkind' }
    },
    createLoginToken: async () => ({ user_id: (await user()).user_id }),
    refreshSession: async () => ({ refresh_token: (await refreshable()).refresh_token }),
    async confirmRefresh() {
      const { user_id, refresh_token } = await refreshable()
      return { user_id, token_hash: tokenHash((await main.refreshSession({ refresh_token })).access_token) }
    },
    deleteDevices: async () => ({ user_id: (await user()).user_id }),
    async renameDevice() {
      const { user_id, device_id } = await user()
      return { user_id, device_id, display_name: 'Kitchen' }
    },
    async deviceSeen() {
      const { user_id, device_id } = await user()
      return { user_id, device_id, ts: Date.now() + 1_000, ip: '10.0.0.1' }
    },
    changePassword: async () => ({ user_id: (await user()).user_id, new_password: 'another', logout_devices: true }),
    async deactivateAccount() {
      const { room_id } = await room()
      return { user_id: await joined(room_id), erase: false }
    },
    async setProfileField() {
      const { room_id } = await room()
      return { user_id: await joined(room_id), field: 'displayname', value: '"Renamed"' }
    },
    async authenticateInteractively() {
      const { user_id } = await user()
      const operation = `delete ${user_id}`
      const flows = [['m.login.dummy', 'm.login.password']]
      const begun = await main.authenticateInteractively({ operation, user_id, flows })
      const { session } = await main.authenticateInteractively({
        operation,
        user_id,
        flows,
        auth: { type: 'm.login.dummy', session: String(begun.session) },
      })
      const auth = { type: 'm.login.password', session: String(session), user: user_id, password }
      return { operation, user_id, flows, once: true, auth }
    },
    async sendEvent() {
      return { ...(await room()), type: 'm.room.topic', state_key: '', content: { topic: next() } }
    },
    createRoom: async () => ({ user_id: (await user()).user_id, name: next(), room_alias_name: next() }),
    async changeMembership() {
      const { room_id, user_id } = await room()
      return { room_id, user_id, target: await joined(room_id), action: 'kick' }
    },
    async forgetRoom() {
      const { room_id } = await room()
      const user_id = await joined(room_id)
      await main.changeMembership({ room_id, user_id, target: user_id, action: 'leave' })
      return { room_id, user_id }
    },
    upgradeRoom: async () => ({ ...(await room()), new_version: '11' }),
    createAlias: async () => ({ ...(await room()), alias: `#${next()}:hs1` as RoomAlias }),
    async deleteAlias() {
      const request = { ...(await room()), alias: `#${next()}:hs1` as RoomAlias }
      await main.createAlias(request)
      return request
    },
    async updateMemberProfile() {
      const { room_id } = await room()
      return { room_id, user_id: await joined(room_id), displayname: 'Renamed' }
    },
    async carryOverSettings() {
      const { room_id, user_id } = await room()
      await main.setTag({ user_id, room_id, tag: 'm.favourite', content: '{}' })
      const { replacement_room } = await main.upgradeRoom({ room_id, user_id, new_version: '11' })
      return { room_id: replacement_room as RoomId, user_id }
    },
    setRoomPublished: async () => ({ ...(await room()), published: true }),
    async sendReceipts() {
      const { room_id, user_id } = await room()
      const event_id = await message(room_id, user_id)
      return { room_id, user_id, receipts: [{ receipt_type: 'm.read', event_id, thread_id: '' }], fully_read: event_id }
    },
    setTyping: async () => ({ ...(await room()), typing: true, timeout_ms: 30_000 }),
    receivePresence: async () => ({
      updates: [{ user_id: `@${next()}:hs2` as UserId, presence: 'online', currently_active: true }],
    }),
    setPresence: async () => ({ user_id: (await user()).user_id, presence: 'online', source: 'client' }),
    setAccountData: async () => ({ user_id: (await user()).user_id, type: 'm.x', content: '{"a":1}' }),
    setTag: async () => ({ ...(await room()), tag: 'u.x', content: '{}' }),
    createFilter: async () => ({ user_id: (await user()).user_id, filter: '{}' }),
    async putPushRule() {
      const { user_id } = await user()
      return { user_id, kind: 'content', rule_id: 'cake', actions: ['notify'], pattern: 'cake' }
    },
    async deletePushRule() {
      const { user_id } = await user()
      await main.putPushRule({ user_id, kind: 'content', rule_id: 'cake', actions: ['notify'], pattern: 'cake' })
      return { user_id, kind: 'content', rule_id: 'cake' }
    },
    async setPushRuleEnabled() {
      return { user_id: (await user()).user_id, kind: 'override', rule_id: '.m.rule.master', enabled: true }
    },
    async setPushRuleActions() {
      return { user_id: (await user()).user_id, kind: 'underride', rule_id: '.m.rule.message', actions: [] }
    },
    async uploadKeys() {
      const { user_id, device_id } = await user()
      const device_keys = JSON.stringify({ user_id, device_id, algorithms: [], keys: {}, signatures: {} })
      return { user_id, device_id, device_keys, one_time_keys: [oneTimeKey(next())], fallback_keys: [oneTimeKey('f')] }
    },
    async claimKeys() {
      const { user_id, device_id } = await user()
      const one_time_keys = [oneTimeKey('a'), oneTimeKey('b')]
      await main.uploadKeys({ user_id, device_id, one_time_keys, fallback_keys: [] })
      return { shard: shardOf(user_id), claims: [{ user_id, device_id, algorithm: 'signed_curve25519' }] }
    },
    async uploadCrossSigningKeys() {
      const { user_id } = await user()
      return { user_id, authenticated: false, master: crossSigningKey(user_id, 'master') }
    },
    async uploadSignatures() {
      const { user_id } = await user()
      const device = generateSigningKey('PHONE')
      const { device_id } = await main.login({
        credentials: { type: 'm.login.password', user_id, password },
        session: { device_id: 'PHONE' as DeviceId, refreshable: false },
      })
      const keys = { [device.keyId]: device.publicKeyBase64 }
      const device_keys = JSON.stringify({ user_id, device_id, algorithms: [], keys, signatures: {} })
      await main.uploadKeys({ user_id, device_id, device_keys, one_time_keys: [], fallback_keys: [] })
      const master = crossSigningKey(user_id, 'master')
      await main.uploadCrossSigningKeys({ user_id, authenticated: false, master })
      const object = JSON.stringify(signJson(JSON.parse(master.key), user_id, device))
      return { user_id, signed: [{ user_id, key_id: master.public_key, object }] }
    },
    async sendToDevice() {
      const [sender, { user_id, device_id }] = [await user(), await user()]
      const messages = [{ user_id, device_id, content: { n: next() } }]
      return { user_id: sender.user_id, device_id: sender.device_id, txn_id: next(), type: 'm.dummy', messages }
    },
    putDehydratedDevice: async () => dehydrated((await user()).user_id),
    async deleteDehydratedDevice() {
      const { user_id } = await user()
      await main.putDehydratedDevice(dehydrated(user_id))
      return { user_id }
    },
    async acknowledgeToDevice() {
      const { user_id, device_id } = await user()
      const messages = [{ user_id, device_id: '*', content: { n: next() } }]
      await main.sendToDevice({ user_id, device_id, txn_id: next(), type: 'm.dummy', messages })
      return { user_id, device_id, up_to: 1_000_000 as StreamPosition }
    },
    async subscribeToThread() {
      const { room_id, user_id } = await room()
      return { room_id, user_id, root_event_id: await message(room_id, user_id), cause: 1_000_000 }
    },
    async unsubscribeFromThread() {
      const { room_id, user_id } = await room()
      const thread = { room_id, user_id, root_event_id: await message(room_id, user_id) }
      await main.subscribeToThread(thread)
      return thread
    },
    createRoomKeyVersion: async () => ({ user_id: (await user()).user_id, algorithm: 'a', auth_data: {} }),
    updateRoomKeyVersion: async () => ({ ...(await backup()), algorithm: 'a', auth_data: { b: 1 } }),
    deleteRoomKeyVersion: () => backup(),
    putRoomKeys: async () => ({ ...(await backup()), keys: [{ ...roomKey, session_id: 'another' }] }),
    deleteRoomKeys: async () => ({ ...(await backup()), room_id: roomKey.room_id }),
    createMedia: async () => ({ ...medium(), user_id: (await user()).user_id }),
    reserveMediaObject: async () => ({ object_key: newObjectKey(), size: 10 }),
    keepMediaObjects: async () => ({ object_keys: [await reservedObject()] }),
    abandonMediaObject: async () => ({ object_key: await reservedObject() }),
    async completeMedia() {
      const { user_id } = await user()
      const name = medium()
      await main.createMedia({ ...name, user_id })
      const written = { object_key: await reservedObject(), sha256: 'a'.repeat(64), size: 5 }
      return { ...name, ...written, user_id, kind: 'upload', ahead: true, content_type: 'text/plain' }
    },
    async completeThumbnail() {
      const source_key = await storedObject(medium())
      const written = { object_key: await reservedObject(), sha256: hashOf(next()), size: 5 }
      const size = { width: 32, height: 32, method: 'crop', animated: false } as const
      return { ...written, ...size, source_key, content_type: 'image/png' }
    },
    noteMediaAccess: async () => ({ media: [await storedMedium()] }),
    deleteMedia: async () => ({ media: [await storedMedium()], deleted_by: (await user()).user_id }),
    quarantineMedia: async () => ({ media: [await storedMedium()], quarantined_by: (await user()).user_id }),
    unquarantineMedia: async () => ({ media: [await storedMedium()] }),
    protectMedia: async () => ({ ...(await storedMedium()), protected: true }),
    blockMediaHash: async () => ({ sha256: hashOf(next()), blocked: true, blocked_by: (await user()).user_id }),
    async storeServerKeys() {
      const server_name = `${next()}.example` as ServerName
      const { keyId: key_id, publicKeyBase64: public_key } = generateSigningKey()
      const key = { key_id, public_key, valid_until_ts: 1, expired_ts: null }
      return { servers: [{ server_name, keys: [key], document: { server_name }, valid_until_ts: 1 }] }
    },
    serverAlive: async () => ({ server_name: `${next()}.example` as ServerName }),
    async receivePdus() {
      const { room_id, user_id } = await room()
      const origin = 'hs2' as ServerName
      const { pdu, envelope, content } = buildEvent(
        rulesOf('12')!,
        {
          room_id,
          type: 'm.room.message',
          sender: '@bob:hs2' as UserId,
          content: { body: 'not of this room' },
          prev_events: [await message(room_id, user_id)],
          auth_events: [],
          depth: 10,
          origin_server_ts: 1,
        },
        origin,
        generateSigningKey('a'),
      )
      return { room_id, room_version: '12', origin, events: [{ event_id: pdu.event_id, envelope, content }] }
    },
    backfillRoom: async () => ({ room_id: (await room()).room_id, limit: 100 }),
    async makeMembershipEvent() {
      const { room_id } = await room()
      return { room_id, user_id: `@${next()}:hs2` as UserId, membership: 'join' }
    },
    async receiveMembership() {
      const { room_id } = await room()
      const origin = 'hs2' as ServerName
      const user_id = `@${next()}:${origin}` as UserId
      const { room_version, event } = await main.makeMembershipEvent({ room_id, user_id, membership: 'join' })
      const draft = event as unknown as EventDraft
      const made = buildEvent(rulesOf(room_version)!, draft, origin, generateSigningKey('a'))
      const { pdu, envelope, content } = made
      return { room_id, room_version, origin, event: { event_id: pdu.event_id, envelope, content } }
    },
    receiveInvite: async () => (await invitation()).request,
    async inviteByThirdParty() {
      const { room_id, user_id } = await room()
      const { user_id: target } = await user()
      const key = generateSigningKey('0')
      const token = next()
      const signed = signJson({ mxid: target, token }, 'identity.hs1', key)
      await main.sendEvent({
        room_id,
        user_id,
        type: 'm.room.third_party_invite',
        state_key: token,
        content: {
          display_name: 'somebody',
          public_key: key.publicKeyBase64,
          public_keys: [],
          key_validity_url: 'https://x',
        },
      })
      return { room_id, sender: user_id, target, display_name: 'somebody', signed }
    },
    async receiveRetraction() {
      const { request, user_id } = await invitation()
      await main.receiveInvite(request)
      const { room_id, room_version, origin } = request
      return { room_id, room_version, origin, event: outsideEvent(room_id, user_id, 'leave') }
    },
    receiveEdus: async () => ({ origin: 'hs2' as ServerName, edus: [{ edu_type: 'org.example.none', content: {} }] }),
    async copyRoomPushRules() {
      const { room_id, user_id } = await room()
      await main.putPushRule({ user_id, kind: 'room', rule_id: room_id, actions: [] })
      return { user_id, from: room_id, to: (await room()).room_id }
    },
  }
}

function hashOf(text: string): string {
  return hash('sha256', text)
}

function oneTimeKey(key_id: string) {
  return { algorithm: 'signed_curve25519', key_id, key: `{"key":"${key_id}","signatures":{}}` }
}

function crossSigningKey(user_id: UserId, usage: string) {
  const { publicKeyBase64: public_key } = generateSigningKey()
  const keys = { [`ed25519:${public_key}`]: public_key }
  return { public_key, key: JSON.stringify({ user_id, usage: [usage], keys, signatures: {} }) }
}

const growing = [
  'users',
  'profiles',
  'devices',
  'access_tokens',
  'refresh_tokens',
  'login_tokens',
  'uia_sessions',
  'rooms',
  'events',
  'room_aliases',
  'memberships',
  'current_state',
  'account_data',
  'receipts',
  'filters',
  'push_rules',
  'push_classes',
  'presence',
  'device_keys',
  'one_time_keys',
  'claimed_keys',
  'fallback_keys',
  'cross_signing_keys',
  'key_signatures',
  'to_device',
  'dehydrated_devices',
  'thread_subscriptions',
  'room_key_versions',
  'room_keys',
  'reports',
  'pushers',
  'media',
  'media_objects',
  'media_thumbnails',
  'media_blocked_hashes',
  'media_drops',
  'user_threepids',
  'threepid_sessions',
  'outbox',
  'user_consents',
  'account_validity',
  'delayed_events',
  'registration_tokens',
  'registration_token_holds',
  'server_keys',
  'server_key_documents',
] as const

/** What of a table has ended: its rows stay until a sweep in the background comes to them, at any time. */
const ended: Partial<Record<(typeof growing)[number], string>> = {
  to_device: `exists (select from ended_inboxes e
    where e.user_id = t.user_id and e.device_id = t.device_id and t.position <= e.up_to)`,
  room_keys: 'exists (select from ended_room_keys e where e.key_set = t.key_set)',
  media_objects: 't.doomed_ts is not null',
}

/** How many rows the tables have, by which an effect that happened twice shows; those that have ended count no more. */
export async function rowCounts(sql: MainSql): Promise<Record<string, number>> {
  const counts: Record<string, number> = {}
  for (const name of growing) {
    const [row] = await sql<{ count: number }[]>`
      select count(*)::integer as count from ${sql(name)} t where not ${sql.unsafe(`(${ended[name] ?? 'false'})`)}`
    counts[name] = row?.count ?? 0
  }
  const [streams] = await sql<{ account_data: number; events: number }[]>`
    select (select position::integer from streams where name = 'account_data') as account_data,
      (select position::integer from streams where name = 'events') as events`
  return { ...counts, ...Object.fromEntries(Object.entries(streams ?? {}).map(([name, n]) => [`stream ${name}`, n])) }
}
