/** Accounts in bulk, past the server: so many registrations would be as many password hashes. */
import { newToken, tokenHash, tokenHashBytes } from '../../shared/auth/tokens.ts'
import type { UserId } from '../../shared/matrix/ids.ts'
import { connectForWriting, type MainSql } from '../../shared/storage/sql.ts'
import type { Bench, User } from './environment.ts'

export const seededDevice = 'BENCH'

/** Users as they are after registration and login with one device. `nameOf` gives their display names; none where it is empty. */
export async function insertUsers(
  bench: Bench,
  prefix: string,
  count: number,
  nameOf: (i: number) => string = () => '',
): Promise<User[]> {
  const users = Array.from({ length: count }, (_, i) => {
    const id = `@${prefix}${i}:bench.local` as UserId
    return { id, token: newToken('gat', id) }
  })
  const ids = users.map(({ id }) => id)
  const hashes = users.map(({ token }) => tokenHashBytes(tokenHash(token)).toString('hex'))
  await withSql(bench, async (sql) => {
    await sql`insert into users (user_id, created_ts) select unnest(${ids}::text[]), 0`
    await sql`insert into profiles (user_id, display_name)
      select id, nullif(name, '') from unnest(${ids}::text[], ${ids.map((_, i) => nameOf(i))}::text[]) as made (id, name)`
    await sql`insert into devices (user_id, device_id, created_ts) select unnest(${ids}::text[]), ${seededDevice}, 0`
    await sql`insert into access_tokens (token_hash, user_id, device_id)
      select decode(hash, 'hex'), id, ${seededDevice} from unnest(${hashes}::text[], ${ids}::text[]) as made (hash, id)`
  })
  return users
}

export async function withSql<T>(bench: Bench, run: (sql: MainSql) => Promise<T>): Promise<T> {
  const sql = connectForWriting({ url: bench.databaseUrl, connections: 1, applicationName: 'ganglion-bench' })
  try {
    return await run(sql)
  } finally {
    await sql.end()
  }
}
