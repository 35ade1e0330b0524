/** Messages by mail and SMS. What was acknowledged to a client is in the table `outbox`, written in the commit of the answer. Each
 *  main sends what is due: it takes some, so that nobody else does for a while, and deletes each once it is handed over. Who
 *  dies in between leaves it to be sent again under the same Message-ID; SMTP can't tell more. */
import * as v from 'valibot'
import type { Clock } from '../../../shared/clock.ts'
import type { Logger } from '../../../shared/logging.ts'
import type { Medium } from '../../../shared/matrix/threepid.ts'
import { fromPgText, type MainSql } from '../../../shared/storage/sql.ts'
import { type Deliver, RefusedError } from './deliver.ts'
import { Message } from './messages.ts'

/** How often a main looks for what others left, and what is to be tried again. */
const lookMs = 10_000
/** Longer than all that a mail server may be slow at. */
const leaseMs = 5 * 60_000
const firstRetryMs = 60_000
const retryMsMax = 60 * 60_000
const takenAtOnce = 20

interface Row {
  readonly message_id: number
  readonly medium: Medium
  readonly address: string
  readonly template: string
  readonly variables: string
  readonly created_ts: number
  readonly attempts: number
  readonly expires_ts: number
}

export interface Outbox {
  /** Something was written: send it now. */
  wake(): void
  /** Takes nothing more, and waits for what is under way. */
  close(): Promise<void>
}

/** Where nothing can be sent, nothing is written either. */
export const noOutbox: Outbox = { wake() {}, async close() {} }

export interface OutboxDeps {
  readonly sql: MainSql
  readonly clock: Clock
  readonly deliver: Deliver
  readonly giveUpAfterMs: number
  readonly log: Pick<Logger, 'error'>
}

export function startOutbox({ sql, clock, deliver, giveUpAfterMs, log }: OutboxDeps): Outbox {
  let closed = false
  let again = false
  let running: Promise<void> | undefined
  let cancel = clock.after(lookMs, wake)

  const take = () => sql<Row[]>`
    update outbox set due_ts = ${clock.now() + leaseMs}, attempts = attempts + 1
    where message_id in (select message_id from outbox where due_ts <= ${clock.now()}
      order by due_ts limit ${takenAtOnce} for update skip locked)
    returning message_id, medium, address, template, variables, created_ts, attempts, expires_ts`

  /** Nobody reads in the log whom a message was for. */
  const named = ({ message_id, medium, template, attempts }: Row) => ({ message_id, medium, template, attempts })

  async function send(row: Row): Promise<void> {
    const { message_id, medium, template, attempts } = row
    const to = { medium, address: fromPgText(row.address) }
    try {
      if (row.expires_ts <= clock.now()) throw new RefusedError('it came too late to be of use')
      const message = v.parse(Message, { ...JSON.parse(fromPgText(row.variables)), template })
      await deliver.send(to, message, `${message_id}.${row.created_ts}`)
    } catch (err) {
      const retryTs = clock.now() + Math.min(retryMsMax, firstRetryMs * 2 ** (attempts - 1))
      const endTs = Math.min(row.expires_ts, row.created_ts + giveUpAfterMs)
      if (err instanceof RefusedError || retryTs >= endTs) {
        log.error({ err, ...named(row) }, 'a message was given up')
      } else {
        log.error({ err, ...named(row) }, 'a message could not be sent; it is tried again')
        await sql`update outbox set due_ts = ${retryTs} where message_id = ${message_id}`
        return
      }
    }
    // One by one: what was sent must not wait for its neighbours to be known as sent.
    await sql`delete from outbox where message_id = ${message_id}`
  }

  async function run(): Promise<void> {
    try {
      while (again && !closed) {
        again = false
        const rows = await take()
        await Promise.all(rows.map(send))
        if (rows.length === takenAtOnce) again = true
      }
    } catch (err) {
      if (!closed) log.error({ err }, 'the outbox could not be read or written; it is tried again')
    }
    running = undefined
    cancel()
    if (!closed) cancel = clock.after(lookMs, wake)
  }

  function wake(): void {
    again = true
    if (!closed) running ??= run()
  }

  // What a main that died left over.
  wake()
  return {
    wake,
    async close() {
      closed = true
      cancel()
      await running
      deliver.close()
    },
  }
}
