/** Main on a database of its own, with users and nothing else: commands are called as handlers call them. */
import * as v from 'valibot'
import { createMain, type Main } from '../../functions/main/main.ts'
import { storedPositions } from '../../functions/main/persist/committer.ts'
import { type Clock, systemClock } from '../../shared/clock.ts'
import { Config } from '../../shared/config/schema.ts'
import type { FederationNetwork } from '../../shared/federation/federation.ts'
import type { ErrorLog } from '../../shared/http/error-response.ts'
import { UserId } from '../../shared/matrix/ids.ts'
import { generateSigningKey } from '../../shared/matrix/signatures.ts'
import { createMemoryEphemeralStore } from '../../shared/replication/ephemeral-store.ts'
import { createInProcessReplication } from '../../shared/replication/in-process.ts'
import type { Publisher, Replication } from '../../shared/replication/replication.ts'
import { type TestDatabase, testDatabase } from './database.ts'

export interface TestMain extends Main {
  readonly database: TestDatabase
  readonly replication: Replication & Publisher
  /** Makes a user with this display name. */
  user(localpart: string, displayname?: string): Promise<UserId>
  /** A second main on the same database, as after a restart; the caller closes the first. */
  restarted(): Promise<TestMain>
  /** Closes main and drops the database. */
  drop(): Promise<void>
}

interface MainOptions {
  readonly config?: object
  readonly clock?: Clock
  /** Where other servers are found. */
  readonly network?: FederationNetwork
  /** In place of failing the test. */
  readonly log?: ErrorLog
}

export async function testMain(options: MainOptions = {}): Promise<TestMain> {
  return mainOn(await testDatabase(), options, generateSigningKey('a_test'))
}

async function mainOn(
  database: TestDatabase,
  options: MainOptions,
  signingKey: ReturnType<typeof generateSigningKey>,
): Promise<TestMain> {
  const clock = options.clock ?? systemClock
  // Of media that a developer's own server keeps, no test's main is to think anything.
  const config = v.parse(Config, { server_name: 'hs1', data_dir: database.folder, ...options.config })
  const { sql } = database
  const replication = createInProcessReplication(await storedPositions(sql), clock)
  const main = await createMain({
    config,
    sql,
    replication,
    ephemeral: createMemoryEphemeralStore(),
    clock,
    signingKeys: [signingKey],
    network: options.network,
    log: options.log ?? {
      error(fields, message) {
        throw new Error(`${message}: ${JSON.stringify(fields)}`)
      },
    },
    onFatal(error) {
      throw error
    },
  })
  return {
    ...main,
    database,
    replication,
    async user(localpart, displayname) {
      const user_id = v.parse(UserId, `@${localpart}:hs1`)
      await sql`insert into users (user_id, created_ts) values (${user_id}, 0)`
      await sql`insert into profiles (user_id, display_name) values (${user_id}, ${displayname ?? localpart})`
      return user_id
    },
    restarted: () => mainOn(database, options, signingKey),
    async drop() {
      await main.close()
      await database.drop()
    },
  }
}
