/** A login of the database for the handlers, as an administrator would make one. */
import { randomBytes } from 'node:crypto'
import { connectForWriting } from '../../shared/storage/sql.ts'

export interface ReaderLogin {
  /** For `database.read_url`. */
  readonly url: string
  drop(): Promise<void>
}

/** The migrations must have been applied. Rejects where the login of `databaseUrl` may not make roles. */
export async function makeReaderLogin(databaseUrl: string): Promise<ReaderLogin> {
  const url = new URL(databaseUrl)
  const login = `${url.pathname.slice(1)}_handlers`.replace(/\W/g, '_').slice(0, 63)
  const password = randomBytes(18).toString('base64url')
  await statement(databaseUrl, async (sql) => {
    const [known] = await sql`select 1 from pg_roles where rolname = ${login}`
    await sql.unsafe(`${known ? 'alter' : 'create'} role ${login} login password '${password}'`)
    await sql.unsafe(`grant ganglion_reader to ${login}`)
  })
  url.username = login
  url.password = password
  return {
    url: url.href,
    drop: () => statement(databaseUrl, (sql) => sql.unsafe(`drop role if exists ${login}`)),
  }
}

async function statement(
  url: string,
  run: (sql: ReturnType<typeof connectForWriting>) => Promise<unknown>,
): Promise<void> {
  const sql = connectForWriting({ url, connections: 1, applicationName: 'ganglion-setup' })
  try {
    await run(sql)
  } finally {
    await sql.end()
  }
}
