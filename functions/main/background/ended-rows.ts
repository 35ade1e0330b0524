/** What ended at once and may be large is deleted bit by bit: inboxes of devices that were taken away, and keys of backups.
 *  Tables say what is left over, so that a main that ends in the middle leaves the rest to the next. */
import type { Clock } from '../../../shared/clock.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'

const retryMs = 10_000
/** Short statements: none holds locks for long. */
const rowsPerStatement = 1_000

export interface EndedRows {
  /** Deletes what is left over, soon; called after a commit that ended something. */
  sweep(): void
  /** Begins nothing more, and waits for the statement under way. */
  close(): Promise<void>
}

export function createEndedRows(deps: {
  readonly sql: MainSql
  readonly clock: Clock
  readonly onError: (error: unknown) => void
}): EndedRows {
  const { sql, clock, onError } = deps
  const stopped = new AbortController()
  let again = false
  let running: Promise<void> | undefined
  let cancel = () => {}

  async function run(): Promise<void> {
    try {
      while (again) {
        again = false
        await deleteInboxes(sql, stopped.signal)
        await deleteRoomKeys(sql, stopped.signal)
      }
    } catch (error) {
      if (!stopped.signal.aborted) {
        onError(error)
        cancel()
        cancel = clock.after(retryMs, sweep)
      }
    }
    running = undefined
  }

  function sweep(): void {
    again = true
    if (!stopped.signal.aborted) running ??= run()
  }

  return {
    sweep,
    async close() {
      stopped.abort()
      cancel()
      await running
    },
  }
}

async function deleteInboxes(sql: MainSql, signal: AbortSignal): Promise<void> {
  for (;;) {
    signal.throwIfAborted()
    const [ended] = await sql<{ user_id: string; device_id: string; up_to: number }[]>`
      select user_id, device_id, up_to from ended_inboxes limit 1`
    if (!ended) return
    const { user_id, device_id, up_to } = ended
    let count: number
    do {
      signal.throwIfAborted()
      ;({ count } = await sql`
        delete from to_device where ctid = any(array(
          select ctid from to_device
          where user_id = ${user_id} and device_id = ${device_id} and position <= ${up_to}
          order by position limit ${rowsPerStatement}))`)
    } while (count === rowsPerStatement)
    // Not one that ended once more meanwhile, and not while another main still deletes: it may end before it is through.
    await sql`
      delete from ended_inboxes
      where user_id = ${user_id} and device_id = ${device_id} and up_to = ${up_to} and not exists (
        select from to_device where user_id = ${user_id} and device_id = ${device_id} and position <= ${up_to})`
  }
}

async function deleteRoomKeys(sql: MainSql, signal: AbortSignal): Promise<void> {
  for (;;) {
    signal.throwIfAborted()
    const [ended] = await sql<{ key_set: number }[]>`select key_set from ended_room_keys limit 1`
    if (!ended) return
    const { key_set } = ended
    let count: number
    do {
      signal.throwIfAborted()
      ;({ count } = await sql`
        delete from room_keys where ctid = any(array(
          select ctid from room_keys where key_set = ${key_set} limit ${rowsPerStatement}))`)
    } while (count === rowsPerStatement)
    await sql`
      delete from ended_room_keys
      where key_set = ${key_set} and not exists (select from room_keys where key_set = ${key_set})`
  }
}
