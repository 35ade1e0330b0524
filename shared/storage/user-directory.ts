/** Reads of the user directory. https://spec.matrix.org/v1.19/client-server-api/#user-directory */
import type { UserId } from '../matrix/ids.ts'
import { fromPgText, pgText, type ReadSql } from './sql.ts'

export interface DirectoryUser {
  readonly user_id: UserId
  readonly display_name: string | null
  readonly avatar_url: string | null
  /** In a room that is not public, with who asks. */
  readonly shared: boolean
}

export interface UserQuestion {
  readonly asker: UserId
  /** Beginnings of words, folded; the user has a word for each of them. The first one leads the way: the rarer the better. */
  readonly prefixes: readonly [string, ...string[]]
  /** Everybody here may be found by everybody. */
  readonly everybody: boolean
}

/** At most so many are taken from the public, in the order of the word that is matched. */
const publicMax = 200
/** Words looked at where more than the word decides: what else was typed, or whether a large room is shared. */
const wordsMax = 1_000
/** Members of the asker's smaller rooms, who are looked at one by one. */
const membersMax = 2_000

/** Users whom the asker may see, in no order; `more` where there were more than could be looked at. The work is bounded
 *  whatever the sizes of the directory and of rooms: the public is found by the word, members of the asker's small rooms
 *  by the room, and those of the large ones by the word again, since among many the word is likely to meet some. */
export async function visibleUsers(
  sql: ReadSql,
  { asker, prefixes, everybody }: UserQuestion,
): Promise<{ readonly users: DirectoryUser[]; readonly more: boolean }> {
  const [first, ...others] = prefixes
  const ranged = sql`w.word >= ${pgText(first)} and w.word < ${`${pgText(first)}\u{10ffff}`}`
  const hasOthers = others.length
    ? sql`and not exists (
        select from unnest(${sql.array(others.map(pgText), 25)}::text[]) as o(prefix)
        where not exists (select from unnest(d.words) as w(word) where starts_with(w.word, o.prefix)))`
    : sql``
  const rows = await sql<(DirectoryUser & { source: 'public' | 'small' | 'large'; cut: boolean })[]>`
    with mine as materialized (
      select m.room_nid, sum(s.joined_members) over (order by s.joined_members, m.room_nid) as members
      from memberships m join room_summaries s using (room_nid)
      where m.user_id = ${asker} and m.membership = 'join'
        and s.join_rule is distinct from 'public' and s.history_visibility is distinct from 'world_readable'
    ), anybody as materialized (
      select w.user_id from user_directory_words w
      where ${ranged} ${everybody ? sql`` : sql`and w.in_public`}
      order by w.word, w.user_id limit ${others.length ? wordsMax : publicMax}
    ), near as materialized (
      select distinct o.user_id from mine join memberships o on o.room_nid = mine.room_nid and o.membership = 'join'
      where mine.members <= ${membersMax}
    ), worded as materialized (
      select w.user_id from user_directory_words w
      where ${ranged} and exists (select from mine where members > ${membersMax})
      order by w.word, w.user_id limit ${wordsMax}
    )
    select d.user_id, d.display_name, d.avatar_url, false as shared,
      (select count(*) from anybody) >= ${others.length ? wordsMax : publicMax} as cut
    from anybody join user_directory d using (user_id) where true ${hasOthers}
    union all
    select d.user_id, d.display_name, d.avatar_url, true, false
    from near join user_directory d using (user_id)
    where exists (select from unnest(d.words) as w(word) where starts_with(w.word, ${pgText(first)})) ${hasOthers}
    union all
    select d.user_id, d.display_name, d.avatar_url, true, (select count(*) from worded) >= ${wordsMax}
    from worded join user_directory d using (user_id)
    where exists (
      select from memberships o join mine on mine.room_nid = o.room_nid and mine.members > ${membersMax}
      where o.user_id = d.user_id and o.membership = 'join') ${hasOthers}`
  const users = new Map<UserId, DirectoryUser>()
  let more = false
  for (const { cut, user_id, display_name, avatar_url, shared } of rows) {
    more ||= cut
    const id = fromPgText(user_id) as UserId
    if (id === asker) continue
    users.set(id, {
      user_id: id,
      display_name: display_name && fromPgText(display_name),
      avatar_url: avatar_url && fromPgText(avatar_url),
      shared: shared || users.get(id)?.shared === true,
    })
  }
  return { users: [...users.values()], more }
}
