/** What supervisors and load balancers ask. `/health` and `/live` say that the process answers; `/ready` that requests can
 *  be served, with the reason where they cannot. A database outage must not restart the process, so only `/ready` knows it. */
import type { Hono } from 'hono'
import type { ReadSql } from '../storage/sql.ts'

const databaseAnswersWithinMs = 2_000

export function healthRoutes(app: Hono, deps: { readonly sql: ReadSql }): void {
  app.get('/health', (c) => c.text('OK'))
  app.get('/live', (c) => c.text('OK'))
  app.get('/ready', async (c) => {
    const database = await answers(deps.sql)
    return c.json({ ready: database, reasons: database ? [] : ['database'] }, database ? 200 : 503)
  })
}

async function answers(sql: ReadSql): Promise<boolean> {
  const late = new Promise<false>((resolve) => setTimeout(() => resolve(false), databaseAnswersWithinMs).unref())
  const answered = sql`select 1`.then(
    () => true,
    () => false,
  )
  return Promise.race([answered, late])
}
