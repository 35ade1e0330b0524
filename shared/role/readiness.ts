/** Why a process may not be ready, each reason with its check. The names are what `/ready` tells, and what dashboards and
 *  runbooks are written against: see docs/operating.md. */
import type { RedisConnection } from '../redis/connection.ts'
import type { Replication } from '../replication/replication.ts'
import { pendingMigrations } from '../storage/known-migrations.ts'
import type { MainSql, ReadSql } from '../storage/sql.ts'
import { type Check, databaseAnswers } from './health.ts'

export interface ReadinessOf {
  /** The process was told to end. */
  stopping(): boolean
  readonly sql: ReadSql | MainSql
  readonly replication?: Pick<Replication, 'fresh'> | undefined
}

/** By reason. `stopping`; `database`: it does not answer; `schema`: it lacks a migration that this version needs; `lag`: the process
 *  cannot learn within two seconds what was acknowledged elsewhere. */
export function readiness({ stopping, sql, replication }: ReadinessOf): Readonly<Record<string, Check>> {
  return {
    stopping: () => !stopping(),
    database: databaseAnswers(sql as ReadSql),
    schema: schemaIsThere(sql),
    ...(replication?.fresh ? { lag: keepsUp(replication) } : {}),
  }
}

/** Looked up until it is so; migrations are never taken back. */
function schemaIsThere(sql: ReadSql | MainSql): Check {
  let isThere = false
  return async () => {
    isThere ||= (await pendingMigrations(sql)).length === 0
    return isThere
  }
}

function keepsUp(replication: Pick<Replication, 'fresh'>): Check {
  return async () => {
    await replication.fresh?.()
    return true
  }
}

/** For what a process is only slower without. */
export function redisAnswers(redis: Pick<RedisConnection, 'client'>): Check {
  return async () => (await redis.client.ping()) === 'PONG'
}
