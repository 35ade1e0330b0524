/** The user directory: whom anybody may find by name, and whether a public room makes everybody see them.
 *  https://spec.matrix.org/v1.19/client-server-api/#user-directory */
import { fold, nameTerms } from '../../../shared/core/words.ts'
import { localpartOf, type UserId } from '../../../shared/matrix/ids.ts'
import { fromPgText, type MainSql, pgText } from '../../../shared/storage/sql.ts'
import { type IndexCursor, type IndexState, indexState, isAt, moving, unsynced } from './index-cursor.ts'

const rowsPerStep = 1_000
const usersPerStatement = 500
/** By how many words one user is found. */
const wordsMax = 50

/** Takes in what changed: memberships, rooms that became public or private, profiles. True where more may be waiting. */
export async function followUsers(sql: MainSql): Promise<boolean> {
  const state = await indexState(sql, 'users')
  const { cursor } = state
  if (cursor.events_position >= state.events && cursor.invalidations_position >= state.invalidations) return false
  if (await missedProfiles(sql, state)) {
    const { events: events_position, invalidations: invalidations_position } = state
    await moving(sql, cursor, { events_position, invalidations_position, backfill: '' })
    return false
  }
  const [changes, profiles] = await Promise.all([
    sql<{ position: number; type: string; state_key: string; room_nid: number }[]>`
      select position, type, state_key, room_nid from events
      where position > ${cursor.events_position} and position <= ${state.events} and state_key is not null
        and type in ('m.room.member', 'm.room.join_rules', 'm.room.history_visibility')
      order by position limit ${rowsPerStep}`,
    sql<{ position: number; key: string }[]>`
      select position, key from invalidations
      where position > ${cursor.invalidations_position} and position <= ${state.invalidations} and cache = 'profile'
      order by position limit ${rowsPerStep}`,
  ])
  const users = new Set<string>(profiles.map((row) => row.key))
  const rooms = new Set<number>()
  for (const change of changes) {
    if (change.type === 'm.room.member') users.add(fromPgText(change.state_key))
    else rooms.add(change.room_nid)
  }
  await refreshUsers(sql, cursor, [...users])
  for (const room of rooms) await refreshMembers(sql, cursor, room)
  const reached = (rows: readonly { position: number }[], end: number) =>
    rows.length === rowsPerStep ? (rows.at(-1)?.position ?? end) : end
  await moving(sql, cursor, {
    events_position: reached(changes, state.events),
    invalidations_position: reached(profiles, state.invalidations),
    backfill: cursor.backfill,
  })
  return changes.length === rowsPerStep || profiles.length === rowsPerStep
}

/** Takes in the accounts, and those members of rooms that have none here, in the order of their ids. True where more are
 *  left. */
export async function backfillUsers(sql: MainSql): Promise<boolean> {
  const { cursor } = await indexState(sql, 'users')
  if (cursor.backfill === null) return false
  const rows = await sql<{ user_id: string }[]>`
    select user_id from (
      (select user_id from users where user_id > ${cursor.backfill} order by user_id limit ${usersPerStatement})
      union
      (select distinct user_id from memberships where user_id > ${cursor.backfill} and not local
        order by user_id limit ${usersPerStatement})
      union
      (select user_id from user_directory where user_id > ${cursor.backfill} order by user_id limit ${usersPerStatement})
    ) known order by user_id limit ${usersPerStatement}`
  await refreshUsers(
    sql,
    cursor,
    rows.map((row) => fromPgText(row.user_id)),
  )
  const last = rows.length === usersPerStatement ? rows.at(-1) : undefined
  await moving(sql, cursor, { ...cursor, backfill: last ? last.user_id : null })
  return last !== undefined
}

/** Invalidations are pruned; who was away for longer looks at everybody anew. */
async function missedProfiles(sql: MainSql, { cursor, invalidations }: IndexState): Promise<boolean> {
  if (cursor.invalidations_position >= invalidations) return false
  const [oldest] = await sql<{ position: number }[]>`select position from invalidations order by position limit 1`
  return (oldest?.position ?? invalidations + 1) > cursor.invalidations_position + 1
}

async function refreshMembers(sql: MainSql, cursor: IndexCursor, room_nid: number): Promise<void> {
  let after = ''
  for (;;) {
    const members = await sql<{ user_id: string }[]>`
      select user_id from memberships
      where room_nid = ${room_nid} and membership = 'join' and user_id > ${after}
      order by user_id limit ${usersPerStatement}`
    await refreshUsers(
      sql,
      cursor,
      members.map((row) => fromPgText(row.user_id)),
    )
    const last = members.at(-1)
    if (!last || members.length < usersPerStatement) return
    after = last.user_id
  }
}

interface KnownUser {
  readonly user_id: string
  readonly listed: boolean
  readonly display_name: string | null
  readonly avatar_url: string | null
  readonly in_public: boolean
}

async function refreshUsers(sql: MainSql, cursor: IndexCursor, users: readonly string[]): Promise<void> {
  for (let i = 0; i < users.length; i += usersPerStatement) {
    await refresh(sql, cursor, users.slice(i, i + usersPerStatement))
  }
}

/** Puts everything that the directory has of these users right. An account's profile is its own; others have what their
 *  newest member event says. */
async function refresh(sql: MainSql, cursor: IndexCursor, users: readonly string[]): Promise<void> {
  const found = await sql<KnownUser[]>`
    select q.user_id, coalesce(m.in_public, false) as in_public,
      case when u.user_id is null then coalesce(m.joined, 0) > 0
        else not u.deactivated and u.kind <> 'support' end as listed,
      case when u.user_id is null then m.display_name else p.display_name end as display_name,
      case when u.user_id is null then m.avatar_url else p.avatar_url end as avatar_url
    from unnest(${sql.array(users.map(pgText), 25)}::text[]) as q(user_id)
    left join users u on u.user_id = q.user_id collate "C"
    left join profiles p on p.user_id = q.user_id collate "C"
    left join lateral (
      select count(*) as joined,
        coalesce(bool_or(s.join_rule = 'public' or s.history_visibility = 'world_readable'), false) as in_public,
        (array_agg(m.display_name order by m.position desc))[1] as display_name,
        (array_agg(m.avatar_url order by m.position desc))[1] as avatar_url
      from memberships m join room_summaries s using (room_nid)
      where m.user_id = q.user_id collate "C" and m.membership = 'join'
    ) m on true`
  const gone = found.filter((user) => !user.listed).map((user) => user.user_id)
  const listed = found.filter((user) => user.listed)
  const rows = listed.map(({ user_id, display_name, avatar_url, in_public }) => ({
    user_id,
    display_name,
    avatar_url,
    in_public,
    words: wordsOfUser(fromPgText(user_id) as UserId, display_name && fromPgText(display_name)),
  }))
  await sql`
    with mine as materialized (select ${unsynced(sql)} from index_cursors where ${isAt(sql, cursor)} for share),
    people as materialized (
      select * from jsonb_to_recordset(${JSON.stringify(rows)}::text::jsonb)
        as x(user_id text, display_name text, avatar_url text, in_public boolean, words text)
      where exists (select from mine)
    ), named as materialized (
      select p.user_id, p.in_public, w.word from people p cross join lateral unnest(string_to_array(substr(p.words, 2), E'\n')) as w(word)
    ), gone as (
      delete from user_directory where user_id = any(${sql.array(gone, 25)}::text[]) and exists (select from mine)
    ), gone_words as (
      delete from user_directory_words w
      where w.user_id = any(${sql.array(
        found.map((user) => user.user_id),
        25,
      )}::text[]) and exists (select from mine)
        and not exists (select from named n where n.user_id = w.user_id and n.word = w.word)
    ), put as (
      insert into user_directory as d (user_id, display_name, avatar_url, in_public, words)
      select user_id, display_name, avatar_url, in_public, words from people
      on conflict (user_id) do update set display_name = excluded.display_name, avatar_url = excluded.avatar_url,
        in_public = excluded.in_public, words = excluded.words
      where (d.display_name, d.avatar_url, d.in_public, d.words)
        is distinct from (excluded.display_name, excluded.avatar_url, excluded.in_public, excluded.words)
    )
    insert into user_directory_words as w (word, user_id, in_public)
    select word, user_id, in_public from named
    on conflict (word, user_id) do update set in_public = excluded.in_public
    where w.in_public <> excluded.in_public`
}

/** By what the beginning of a search finds a user: the id, its localpart, and the words of both names. */
function wordsOfUser(user_id: UserId, display_name: string | null): string {
  const localpart = localpartOf(user_id)
  const words = [fold(user_id), fold(localpart), ...nameTerms(localpart, wordsMax)]
  if (display_name !== null) words.push(...nameTerms(display_name, wordsMax))
  return pgText([...new Set(words)].map((word) => `\n${word.replaceAll('\n', ' ')}`).join(''))
}
