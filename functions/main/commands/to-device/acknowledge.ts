/** Deletes what devices have acknowledged. Acknowledgements that come while a statement runs share the next one. To delete
 *  what is acknowledged is right whoever does it and however often, so this needs no commit of this process's own. */
import { setImmediate as turn } from 'node:timers/promises'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { DeviceId, UserId } from '../../../../shared/matrix/ids.ts'
import { outsideRequests } from '../../../../shared/request-context.ts'
import { type MainSql, pgText } from '../../../../shared/storage/sql.ts'

const int8 = 20
const text = 25
const devicesPerStatement = 500
/** What a client gets in one answer is deleted in one statement; a longer list takes several. */
const rowsPerDevice = 200

interface Acknowledged {
  readonly user_id: UserId
  readonly device_id: DeviceId
  up_to: number
  readonly done: PromiseWithResolvers<void>
}

export function acknowledgeToDeviceHandler(sql: MainSql): MainClient['acknowledgeToDevice'] {
  let waiting = new Map<string, Acknowledged>()
  let running = false

  async function run(): Promise<void> {
    // What arrives in this turn goes together.
    await turn()
    while (waiting.size > 0) {
      const batch = [...waiting.values()].slice(0, devicesPerStatement)
      if (batch.length === waiting.size) waiting = new Map()
      else for (const entry of batch) waiting.delete(keyOf(entry))
      try {
        await deleteUpTo(sql, batch)
        for (const { done } of batch) done.resolve()
      } catch (error) {
        for (const { done } of batch) done.reject(error)
      }
    }
    running = false
  }

  return async ({ user_id, device_id, up_to }) => {
    const key = keyOf({ user_id, device_id })
    let entry = waiting.get(key)
    if (entry) entry.up_to = Math.max(entry.up_to, up_to)
    else {
      entry = { user_id, device_id, up_to, done: Promise.withResolvers() }
      waiting.set(key, entry)
    }
    if (!running) {
      running = true
      // It works for all who wait, not for the request that found it idle.
      void outsideRequests(run)
    }
    await entry.done.promise
    return {}
  }
}

function keyOf({ user_id, device_id }: { readonly user_id: UserId; readonly device_id: DeviceId }): string {
  return `${user_id}\n${device_id}`
}

async function deleteUpTo(sql: MainSql, batch: readonly Acknowledged[]): Promise<void> {
  const users = batch.map((entry) => entry.user_id)
  const devices = batch.map((entry) => pgText(entry.device_id))
  const positions = batch.map((entry) => entry.up_to)
  for (;;) {
    const { count } = await sql`
      delete from to_device where ctid = any(array(
        select i.ctid from unnest(${sql.array(users, text)}::text[], ${sql.array(devices, text)}::text[],
          ${sql.array(positions, int8)}::bigint[]) as q(user_id, device_id, up_to)
        cross join lateral (
          select ctid from to_device
          where user_id = q.user_id collate "C" and device_id = q.device_id collate "C" and position <= q.up_to
          order by position limit ${rowsPerDevice}) i))`
    // Fewer than one device may have had: none has reached the limit.
    if (count < rowsPerDevice) return
  }
}
