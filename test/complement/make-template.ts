/** Makes an embedded database with the newest schema in the folder given, for servers that are made by the dozen. */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { ensureDatabase } from '../../functions/monolith/database.ts'
import { startEmbeddedPostgres } from '../../functions/monolith/embedded-postgres.ts'
import { listMigrations, migrate } from '../../shared/storage/migrate.ts'
import { connectForWriting } from '../../shared/storage/sql.ts'

const [folder] = process.argv.slice(2)
if (folder === undefined) throw new Error('usage: make-template.ts FOLDER')
const dir = path.resolve(folder, 'postgres')
const stamp = path.resolve(folder, 'stamp')
const statements = (await listMigrations()).map((migration) => migration.statements).join('\n')
const version = createHash('sha256').update(statements).digest('hex')

if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== version) {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const server = await startEmbeddedPostgres({ dir, unsafeFast: true })
  const sql = connectForWriting({
    url: await ensureDatabase(server),
    connections: 1,
    applicationName: 'ganglion-template',
  })
  await migrate(sql)
  await sql.end()
  await server.stop()
  writeFileSync(stamp, version)
}
