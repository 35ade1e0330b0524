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
const wordsMax = 500
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
  const hasWord = (prefix: string) => sql`and strpos(d.words, ${`\n${pgText(prefix)}`}) > 0`
  // Fragments nest; the list is short.
  const hasOthers = others.reduce((held, prefix) => sql`${held} ${hasWord(prefix)}`, sql``)
  const anybodyMax = others.length ? wordsMax : publicMax
  // Each step is a loop over few rows with a look into an index for each, and stays one whatever the planner believes of
  // the sizes: what is behind a limit is not turned into a join.
  const person = sql`cross join lateral (select * from user_directory u where u.user_id = q.user_id limit 1) d`
  const rows = await sql<(DirectoryUser & { cut: boolean })[]>`
    with mine as materialized (
      select m.room_nid, sum(s.joined_members) over (order by s.joined_members, m.room_nid) as members
      from memberships m join room_summaries s using (room_nid)
      where m.user_id = ${asker} and m.membership = 'join'
        and s.join_rule is distinct from 'public' and s.history_visibility is distinct from 'world_readable'
    ), anybody as materialized (
      select w.user_id from user_directory_words w
      where ${ranged} ${everybody ? sql`` : sql`and w.in_public`}
      order by w.word, w.user_id limit ${anybodyMax}
    ), near as materialized (
      select distinct o.user_id from mine cross join lateral (
        select user_id from memberships where room_nid = mine.room_nid and membership = 'join' limit ${membersMax}
      ) o where mine.members <= ${membersMax}
    ), worded as materialized (
      select w.user_id from user_directory_words w
      where ${ranged} and exists (select from mine where members > ${membersMax})
      order by w.word, w.user_id limit ${wordsMax}
    )
    select d.user_id, d.display_name, d.avatar_url, false as shared,
      (select count(*) from anybody) >= ${anybodyMax} as cut
    from anybody q ${person} where true ${hasOthers}
    union all
    select d.user_id, d.display_name, d.avatar_url, true, false
    from near q ${person}
    where true ${hasWord(first)} ${hasOthers}
    union all
    select d.user_id, d.display_name, d.avatar_url, true, (select count(*) from worded) >= ${wordsMax}
    from worded q cross join lateral (
      select 1 from memberships o where o.user_id = q.user_id and o.membership = 'join' and (
        select true from memberships a
        where a.user_id = ${asker} and a.room_nid = o.room_nid and a.membership = 'join' limit 1)
      limit 1
    ) together ${person} where true ${hasOthers}`
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
