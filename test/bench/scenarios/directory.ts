import { drive } from '../measure.ts'
import { check, createRoom, measured, pause, registerMany, type Scenario } from '../scenario.ts'
import { insertUsers, withSql } from '../seed.ts'

const people = 100_000
const searches = 400
const syllables = ['ka', 'lo', 'mi', 'ren', 'sa', 'tor', 'ul', 'ven', 'wi', 'zo']
const pick = (n: number) => syllables[n % syllables.length] ?? ''
/** A thousand first names and a thousand last names. */
const firstOf = (i: number) => `${pick(i)}${pick(Math.floor(i / 10))}${pick(Math.floor(i / 100))}`
const lastOf = (i: number) => `${pick(i * 7 + 3)}${pick(Math.floor(i / 1_000))}${pick(Math.floor(i / 10_000))}`
const nameOf = (i: number) => `${firstOf(i)} ${lastOf(i)}`

interface Found {
  readonly results: readonly { readonly user_id: string; readonly display_name: string }[]
  readonly limited: boolean
}

/** Searches in a directory of 100,000 people, all in one public room: by the beginning of a name that ten thousand have, by a
 *  whole name, by an id. Beside it, how long the index took to be made anew. */
export const directory: Scenario = async (bench) => {
  const [asker] = await registerMany(bench, 'asker', 1)
  if (!asker) throw new Error('no user')
  const room = await createRoom(bench, asker)
  const users = await insertUsers(bench, 'person', people, nameOf)
  const ids = users.map(({ id }) => id)
  const beganMs = performance.now()
  await withSql(bench, async (sql) => {
    await sql`insert into memberships (user_id, room_nid, membership, event_nid, position, sender, display_name, local)
      select p.user_id, r.room_nid, 'join', m.event_nid, m.position, p.user_id, p.display_name, true
      from rooms r join memberships m on m.room_nid = r.room_nid and m.user_id = ${asker.id}, profiles p
      where r.room_id = ${room} and p.user_id = any(${ids}::text[])`
    await sql`update room_summaries s set joined_members = joined_members + ${people} from rooms r
      where r.room_id = ${room} and s.room_nid = r.room_nid`
    await sql`update index_cursors set backfill = '' where name = 'users'`
    for (;;) {
      const [cursor] = await sql<{ backfill: string | null }[]>`select backfill from index_cursors where name = 'users'`
      if (cursor?.backfill === null) break
      await pause(100)
    }
  })
  const indexedMs = performance.now() - beganMs
  // Servers close connections on which nothing comes for so long.
  bench.http.close()

  const search = (search_term: string) =>
    bench.http.json<Found>('POST', '/_matrix/client/v3/user_directory/search', asker.token, { search_term })
  const terms = {
    'the beginning of many names': (i: number) => pick(i),
    'a whole name': (i: number) => nameOf((i * 7919) % people),
    'an id': (i: number) => ids[(i * 7919) % people] ?? '',
  }
  const rows = []
  for (const [what, termOf] of Object.entries(terms)) {
    const find = async (i: number) => {
      const term = termOf(i)
      const { results } = await search(term)
      check(results.length > 0, `nobody was found by ${term}`)
      for (const { user_id, display_name } of results) {
        const words = [user_id.slice(1), ...display_name.split(' ')]
        const parts = term.replace(/^@/, '').split(' ')
        check(
          parts.every((part) => words.some((word) => word.startsWith(part))),
          `${user_id} (${display_name}) was found by ${term}`,
        )
      }
    }
    await drive(20, 1, find)
    const row = await measured(bench, `user directory of ${people}, by ${what}`, () => drive(searches, 1, find))
    rows.push(rows.length > 0 ? row : { ...row, note: `made in ${(indexedMs / 1000).toFixed(1)} s` })
  }
  return rows
}
