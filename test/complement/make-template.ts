/** Makes an embedded database with the newest schema in the folder given, for servers that are made by the dozen. */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { ensureDatabase } from '../../functions/monolith/database.ts'
import { startEmbeddedPostgres } from '../../functions/monolith/embedded-postgres.ts'
import { listMigrations } from '../../shared/storage/known-migrations.ts'
import { migrate } from '../../shared/storage/migrate.ts'
import { connectForWriting } from '../../shared/storage/sql.ts'

const [folder] = process.argv.slice(2)
if (folder === undefined) throw new Error('usage: make-template.ts FOLDER')
const finished = path.resolve(folder, 'postgres')
const stamp = path.join(finished, 'stamp')
const statements = (await listMigrations()).map((migration) => migration.statements).join('\n')
const version = createHash('sha256').update(statements).digest('hex')

if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== version) {
  // Made under another name and moved into place: two runs at once do not meet, and no half-made one is ever used.
  mkdirSync(folder, { recursive: true })
  const dir = path.resolve(folder, `making-${process.pid}`)
  const server = await startEmbeddedPostgres({ dir, unsafeFast: true })
  try {
    const sql = connectForWriting({
      url: await ensureDatabase(server),
      connections: 1,
      applicationName: 'ganglion-template',
    })
    await migrate(sql)
    await sql.end()
  } finally {
    await server.stop()
  }
  writeFileSync(path.join(dir, 'stamp'), version)
  rmSync(finished, { recursive: true, force: true })
  renameSync(dir, finished)
}
