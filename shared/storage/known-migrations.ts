/** The migrations of this version, and what a database has seen of them. Reading only. */
import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import type { MainSql, ReadSql } from './sql.ts'

const directory = new URL('./migrations/', import.meta.url)

export interface Migration {
  readonly version: number
  readonly name: string
  readonly statements: string
  /** Of the statements, in hexadecimal. A file is the same however its lines end. */
  readonly checksum: string
}

/** In the order in which they are applied. */
export async function listMigrations(): Promise<Migration[]> {
  const names = (await readdir(directory)).filter((name) => /^\d{4}_[a-z0-9_]+\.sql$/.test(name)).sort()
  return Promise.all(
    names.map(async (name) => {
      const statements = await readFile(new URL(name, directory), 'utf8')
      const checksum = createHash('sha256').update(statements.replaceAll('\r\n', '\n')).digest('hex')
      return { version: Number(name.slice(0, 4)), name, statements, checksum }
    }),
  )
}

interface Applied {
  readonly version: number
  readonly name: string
  /** null: applied by a version that recorded none. */
  readonly checksum: string | null
}

/** Migrations that the database has not seen, oldest first. Rejects, naming it, for one that the database has seen with
 *  other contents: what its schema is then, nobody knows. Later versions' migrations are no obstacle. */
export async function pendingMigrations(sql: ReadSql | MainSql): Promise<Migration[]> {
  const known = await listMigrations()
  const [table] = await sql`select to_regclass('schema_migrations') as found`
  if (!table?.found) return known
  const applied = new Map((await appliedMigrations(sql)).map((row) => [row.version, row]))
  return known.filter((migration) => {
    const seen = applied.get(migration.version)
    if (seen) refuseChanged(migration, seen)
    return seen === undefined
  })
}

async function appliedMigrations(sql: ReadSql | MainSql): Promise<Applied[]> {
  // By way of JSON, which has no such field where the table has no such column yet.
  return sql<Applied[]>`select version, name, to_jsonb(m) ->> 'checksum' as checksum from schema_migrations m`
}

function refuseChanged({ name, checksum }: Migration, seen: Applied): void {
  if (seen.name !== name) {
    throw new Error(`migration ${name} was applied to this database under another name, ${seen.name}`)
  }
  if (seen.checksum !== null && seen.checksum !== checksum) {
    throw new Error(
      `migration ${name} was changed after it was applied to this database: restore the file, and make a further migration of the change`,
    )
  }
}
