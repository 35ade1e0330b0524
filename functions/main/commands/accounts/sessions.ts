/** Sessions: a device, its access token and, where the client can refresh, a refresh token. What changes a user's
 *  sessions runs one at a time a user. */
import { randomInt } from 'node:crypto'
import type postgres from 'postgres'
import { newToken, tokenHash, tokenHashBytes } from '../../../../shared/auth/tokens.ts'
import type { accountCommands, Session } from '../../../../shared/commands/accounts.ts'
import type { RequestOf } from '../../../../shared/commands/define.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { DeviceId, UserId } from '../../../../shared/matrix/ids.ts'
import { lockedError, MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import { isCrossSigningKey } from '../../../../shared/storage/device-keys.ts'
import { fromPgText, type MainSql, pgText, type WriteTx } from '../../../../shared/storage/sql.ts'
import { noAccountData } from '../../../../shared/streams/account-data.ts'
import { answered } from '../../command-call.ts'
import { joinWrites, type Writes } from '../../persist/writes.ts'
import type { AccountDeps } from './deps.ts'

export type SessionWish = RequestOf<(typeof accountCommands)['login']>['session']
type Statements = postgres.PendingQuery<postgres.Row[]>[]
type Invalidations = NonNullable<Writes['invalidations']>

const loginTokenLifetimeMs = 120_000
export const deviceNameCharactersMax = 100
const text = 25

/** Opens a session. `alongside` runs when the user's sessions are this call's alone; its writes join the commit. */
export function openSession(
  deps: AccountDeps,
  user_id: UserId,
  wish: SessionWish,
  alongside?: () => Promise<Writes>,
): Promise<Session> {
  return deps.queue.run(user_id, async () => {
    const further = await alongside?.()
    const { session, writes } = await sessionOpening(deps, user_id, wish)
    await deps.committer.commit(joinWrites(writes, further ?? {}, answered(session)))
    return session
  })
}

/** What opens a session once it is committed. A device that was there keeps its name and loses its former tokens. To be
 *  called where nothing else changes the user's sessions. */
export async function sessionOpening(
  deps: AccountDeps,
  user_id: UserId,
  wish: SessionWish,
): Promise<{ session: Session; writes: Writes }> {
  const now = deps.clock.now()
  const device_id = wish.device_id ?? newDeviceId()
  if (wish.device_id && (await isCrossSigningKey(deps.sql, user_id, device_id))) {
    throw new MatrixError('M_FORBIDDEN', 'This device id is the name of one of your cross-signing keys')
  }
  const former = wish.device_id ? await accessTokensOf(deps, user_id, device_id) : []
  const pair = newPair(deps, user_id, wish.refreshable)
  const name = wish.initial_device_display_name?.slice(0, deviceNameCharactersMax)
  const writes: Writes = {
    invalidations: forgotten(former),
    also: (tx) => [
      ...deleteTokens(tx, former),
      tx`delete from refresh_tokens where user_id = ${user_id} and device_id = ${pgText(device_id)}`,
      tx`
        insert into devices (user_id, device_id, display_name, created_ts, last_seen_ts, last_seen_ip, last_seen_agent)
        values (${user_id}, ${pgText(device_id)}, ${orNull(name)}, ${now}, ${now}, ${orNull(wish.ip)},
          ${orNull(wish.agent)})
        on conflict (user_id, device_id) do update set last_seen_ts = excluded.last_seen_ts,
          last_seen_ip = excluded.last_seen_ip, last_seen_agent = excluded.last_seen_agent`,
      ...insertPair(tx, user_id, device_id, pair, false),
    ],
  }
  const { access_token, refresh_token, expires_in_ms } = pair
  const session =
    refresh_token === undefined || expires_in_ms === undefined
      ? { user_id, device_id, access_token }
      : { user_id, device_id, access_token, refresh_token, expires_in_ms }
  return { session, writes }
}

export function sessionHandlers(
  deps: AccountDeps,
): Pick<MainClient, 'createLoginToken' | 'refreshSession' | 'confirmRefresh' | 'deleteDevices'> {
  const { sql, committer, clock } = deps
  return {
    async createLoginToken({ user_id }) {
      const login_token = newToken('glt', user_id)
      await committer.commit({
        also: (tx) => [
          tx`insert into login_tokens (token_hash, user_id, expires_ts)
            values (${hashBytes(login_token)}, ${user_id}, ${clock.now() + loginTokenLifetimeMs})`,
        ],
      })
      return { login_token, expires_in_ms: loginTokenLifetimeMs }
    },

    async refreshSession({ refresh_token }) {
      const hash = hashBytes(refresh_token)
      const [owner] = await sql<{ user_id: UserId }[]>`select user_id from refresh_tokens where token_hash = ${hash}`
      if (!owner) throw unknownRefreshToken()
      return deps.queue.run(owner.user_id, () => refresh(deps, owner.user_id, hash))
    },

    async confirmRefresh({ token_hash }) {
      const hash = tokenHashBytes(token_hash)
      const [held] = await sql<{ user_id: UserId; device_id: DeviceId }[]>`
        select user_id, device_id from access_tokens where token_hash = ${hash} and supersedes`
      if (!held) return {}
      const { user_id, device_id } = held
      return deps.queue.run(user_id, async () => {
        const tokens = await accessTokensOf(deps, user_id, device_id)
        // A refresh that came in between has settled it, or has ended this token.
        if (!tokens.some((token) => token.supersedes && token.token_hash.equals(hash))) return {}
        const ended = tokens.filter((token) => !token.token_hash.equals(hash))
        await committer.commit({
          invalidations: forgotten(ended),
          also: (tx) => [
            ...deleteTokens(tx, ended),
            tx`update access_tokens set supersedes = false where token_hash = ${hash}`,
            tx`delete from refresh_tokens
              where user_id = ${user_id} and device_id = ${pgText(device_id)} and successor_hash is not null`,
          ],
        })
        return {}
      })
    },

    deleteDevices({ user_id, device_ids }) {
      return deps.queue.run(user_id, async () => {
        await committer.commit(joinWrites(await endDevices(sql, user_id, device_ids), answered({})))
        deps.endedRows.sweep()
        return {}
      })
    },
  }
}

/** A client that lost the answer asks again with the same token: the pair it never saw ends, and the token gives another
 *  one. A token without a successor shows that its own pair has arrived, so the pair before that ends. */
async function refresh(deps: AccountDeps, user_id: UserId, hash: Buffer) {
  const { sql, committer, clock } = deps
  const [row] = await sql<
    {
      device_id: DeviceId
      expires_ts: number | null
      successor_hash: Buffer | null
      deactivated: boolean
      locked: boolean
    }[]
  >`
    select r.device_id, r.expires_ts, r.successor_hash, u.deactivated, u.locked
    from refresh_tokens r join users u using (user_id) where r.token_hash = ${hash}`
  if (!row || row.deactivated || (row.expires_ts !== null && row.expires_ts <= clock.now())) {
    throw unknownRefreshToken()
  }
  if (row.locked) throw lockedError()
  const { device_id, successor_hash: lost } = row
  const tokens = await accessTokensOf(deps, user_id, device_id)
  const ownArrived = tokens.some((token) => token.supersedes)
  const ended = lost
    ? tokens.filter((token) => token.supersedes)
    : tokens.filter((token) => ownArrived && !token.supersedes)
  const pair = newPair(deps, user_id, true)
  const { access_token, refresh_token, expires_in_ms } = pair
  if (refresh_token === undefined || expires_in_ms === undefined) throw new Error('a pair has a refresh token')
  await committer.commit({
    invalidations: forgotten(ended),
    also: (tx) => [
      ...deleteTokens(tx, ended),
      lost
        ? tx`delete from refresh_tokens where token_hash = ${lost}`
        : tx`delete from refresh_tokens
            where user_id = ${user_id} and device_id = ${pgText(device_id)} and successor_hash = ${hash}`,
      tx`update access_tokens set supersedes = false where user_id = ${user_id} and device_id = ${pgText(device_id)}`,
      ...insertPair(tx, user_id, device_id, pair, true),
      tx`update refresh_tokens set successor_hash = ${hashBytes(refresh_token)} where token_hash = ${hash}`,
    ],
  })
  return { access_token, refresh_token, expires_in_ms }
}

/** What belongs to a device, and goes with it. */
const deviceTables = [
  'access_tokens',
  'refresh_tokens',
  'pushers',
  'device_keys',
  'one_time_keys',
  'claimed_keys',
  'fallback_keys',
  'key_count_changes',
  'dehydrated_devices',
  'devices',
] as const

/** Account data of a device: what is named so, and by its id.
 *  https://github.com/matrix-org/matrix-spec-proposals/pull/3890 */
const deviceSettings = ['m.local_notification_settings.', 'org.matrix.msc3890.local_notification_settings.']

/** Takes devices, their tokens, keys and settings away; absent `device_ids`: all of the user's but `keep`. To be called
 *  where nothing else changes the user's sessions. Who tracks the user's devices is told where one of them had keys. */
export async function endDevices(
  sql: MainSql,
  user_id: UserId,
  device_ids?: readonly DeviceId[],
  keep?: DeviceId,
): Promise<Writes> {
  const ids = device_ids?.map(pgText)
  if (ids?.length === 0) return {}
  const kept = keep === undefined ? '' : pgText(keep)
  const [withKeys, settings] = await Promise.all([
    sql<{ device_id: string }[]>`
      select device_id from device_keys where user_id = ${user_id} and device_id <> ${kept}`,
    sql<{ type: string; device_id: string }[]>`
      select a.type, substr(a.type, length(prefix) + 1) as device_id
      from unnest(${sql.array(deviceSettings, text)}::text[]) prefix join account_data a on starts_with(a.type, prefix)
      where a.user_id = ${user_id} and a.room_nid = 0 and a.content <> ${noAccountData}`,
  ])
  const ends = ({ device_id }: { readonly device_id: string }) =>
    device_id !== kept && (ids === undefined || ids.includes(device_id))
  const ended = withKeys.filter(ends).map((row) => row.device_id)
  return {
    account_data: settings
      .filter(ends)
      .map(({ type }) => ({ user_id, room_nid: 0, type: fromPgText(type), content: noAccountData })),
    invalidations: [{ cache: 'user_tokens', key: user_id }],
    ...(ended.length > 0 ? { device_lists: [{ user_id }] } : {}),
    also: (tx) => [
      tx`select end_inboxes(${user_id}, ${ids ? tx.array(ids, text) : null}::text[], ${kept})`,
      ...(ended.length > 0 ? deviceSignatures(tx, user_id, ended) : []),
      ...deviceTables.map((table) =>
        ids
          ? tx`delete from ${tx(table)} where user_id = ${user_id} and device_id in ${tx(ids)}`
          : tx`delete from ${tx(table)} where user_id = ${user_id} and device_id <> ${kept}`,
      ),
    ],
  }
}

/** Those on the devices, and those by them. */
function deviceSignatures(tx: WriteTx, user_id: UserId, devices: readonly string[]): Statements {
  const signing = devices.map((id) => `ed25519:${id}`)
  return [
    tx`delete from key_signatures where user_id = ${user_id} and key_id in ${tx(devices)}`,
    tx`delete from key_signatures where signer = ${user_id} and signing_key in ${tx(signing)}`,
  ]
}

interface Pair {
  readonly access_token: string
  readonly expires_ts?: number
  readonly expires_in_ms?: number
  readonly refresh_token?: string
  readonly refresh_expires_ts?: number
}

function newPair({ config, clock }: AccountDeps, user_id: UserId, refreshable: boolean): Pair {
  const access_token = newToken('gat', user_id)
  if (!refreshable) return { access_token }
  const now = clock.now()
  const { access_token_lifetime: expires_in_ms, refresh_token_lifetime } = config.sessions
  return {
    access_token,
    expires_ts: now + expires_in_ms,
    expires_in_ms,
    refresh_token: newToken('grt', user_id),
    ...(refresh_token_lifetime === undefined ? {} : { refresh_expires_ts: now + refresh_token_lifetime }),
  }
}

function insertPair(tx: WriteTx, user_id: UserId, device_id: DeviceId, pair: Pair, supersedes: boolean): Statements {
  const device = pgText(device_id)
  const access = tx`insert into access_tokens (token_hash, user_id, device_id, expires_ts, supersedes)
    values (${hashBytes(pair.access_token)}, ${user_id}, ${device}, ${pair.expires_ts ?? null}, ${supersedes})`
  if (pair.refresh_token === undefined) return [access]
  return [
    access,
    tx`insert into refresh_tokens (token_hash, user_id, device_id, expires_ts)
      values (${hashBytes(pair.refresh_token)}, ${user_id}, ${device}, ${pair.refresh_expires_ts ?? null})`,
  ]
}

interface HeldToken {
  readonly token_hash: Buffer
  readonly supersedes: boolean
}

async function accessTokensOf({ sql }: AccountDeps, user_id: UserId, device_id: DeviceId): Promise<HeldToken[]> {
  return sql<HeldToken[]>`
    select token_hash, supersedes from access_tokens where user_id = ${user_id} and device_id = ${pgText(device_id)}`
}

function deleteTokens(tx: WriteTx, tokens: readonly HeldToken[]): Statements {
  return tokens.map((token) => tx`delete from access_tokens where token_hash = ${token.token_hash}`)
}

function forgotten(tokens: readonly HeldToken[]): Invalidations {
  return tokens.map((token) => ({ cache: 'access_token', key: token.token_hash.toString('base64url') }))
}

function hashBytes(token: string): Buffer {
  return tokenHashBytes(tokenHash(token))
}

/** Ten capital letters, as clients and people know device ids. */
function newDeviceId(): DeviceId {
  return Array.from({ length: 10 }, () => String.fromCharCode(65 + randomInt(26))).join('') as DeviceId
}

function orNull(text: string | undefined): string | null {
  return text === undefined ? null : pgText(text)
}

function unknownRefreshToken(): MatrixError {
  return new MatrixError('M_UNKNOWN_TOKEN', 'The refresh token is not known', { extra: { soft_logout: false } })
}
