/** What supervisors and load balancers ask. `/health` and `/live` say that the process answers; `/ready` that requests can
 *  be served, with the reasons by name where they cannot. A database outage must not restart the process, so only
 *  `/ready` knows it. */
import type { Hono } from 'hono'
import type { ReadSql } from '../storage/sql.ts'

/** True where it is well. A check that throws, or takes longer than two seconds, is false. */
export type Check = () => boolean | Promise<boolean>

export interface Probes {
  /** By the reason's name. One that fails makes the process not ready. */
  readonly needed: Readonly<Record<string, Check>>
  /** What it is only slower without, such as Redis. Told, and no reason to send nobody here. */
  readonly helpful?: Readonly<Record<string, Check>>
}

const checkedWithinMs = 2_000

export function healthRoutes(app: Hono, { needed, helpful }: Probes): void {
  app.get('/health', (c) => c.text('OK'))
  app.get('/live', (c) => c.text('OK'))
  app.get('/ready', async (c) => {
    const [reasons, degraded] = await Promise.all([failing(needed), failing(helpful ?? {})])
    const ready = reasons.length === 0
    return c.json({ ready, reasons, ...(helpful ? { degraded } : {}) }, ready ? 200 : 503)
  })
}

export function databaseAnswers(sql: ReadSql): Check {
  return async () => (await sql`select 1`).length === 1
}

/** Names of the checks that failed. */
async function failing(checks: Readonly<Record<string, Check>>): Promise<string[]> {
  const results = await Promise.all(
    Object.entries(checks).map(async ([name, check]) => ((await passes(check)) ? undefined : name)),
  )
  return results.filter((name) => name !== undefined)
}

async function passes(check: Check): Promise<boolean> {
  const result = (async () => check())().catch(() => false)
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), checkedWithinMs)
  })
  try {
    return await Promise.race([result, late])
  } finally {
    clearTimeout(timer)
  }
}
