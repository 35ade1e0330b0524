/** Which devices that messages name are there. Requests that come while the database is being asked share the next query:
 *  a query a request took half of a request's time. */
import type { RequestOf } from '../../../../shared/commands/define.ts'
import type { toDeviceCommands } from '../../../../shared/commands/to-device.ts'
import type { DeviceId, UserId } from '../../../../shared/matrix/ids.ts'
import { outsideRequests } from '../../../../shared/request-context.ts'
import { fromPgText, type MainSql, pgText } from '../../../../shared/storage/sql.ts'

type Messages = RequestOf<(typeof toDeviceCommands)['sendToDevice']>['messages']

/** The devices among a user's that a name stands for; users of other servers have none here. */
export type DevicesOf = (user_id: UserId, device_id: string) => readonly DeviceId[]

/** All devices of a user. */
const everyDevice = '*'
const text = 25
/** What one query looks up for several requests; a larger one has a query of its own. */
const sharedMax = 500

interface Waiting {
  readonly messages: Messages
  readonly resolve: (devices: DevicesOf) => void
  readonly reject: (error: unknown) => void
}

/** `most`: rows that a request may be answered by, and one more. */
export function createKnownDevices(sql: MainSql, most: number): (messages: Messages) => Promise<DevicesOf> {
  let waiting: Waiting[] = []
  let reading = false

  async function readOn(): Promise<void> {
    while (waiting.length > 0) {
      const batch: Waiting[] = []
      let messages = 0
      for (const one of waiting) {
        messages += one.messages.length
        if (batch.length > 0 && messages > sharedMax) break
        batch.push(one)
      }
      waiting = waiting.slice(batch.length)
      await answer(batch)
    }
    reading = false
  }

  async function answer(batch: readonly Waiting[]): Promise<void> {
    try {
      const { devices, isWhole } = await read(batch.flatMap(({ messages }) => messages))
      if (isWhole || batch.length === 1) for (const one of batch) one.resolve(devices)
      else for (const one of batch) await answer([one])
    } catch (error) {
      for (const one of batch) one.reject(error)
    }
  }

  /** `isWhole`: no user has so many devices that some were left out. */
  async function read(messages: Messages): Promise<{ devices: DevicesOf; isWhole: boolean }> {
    const all = new Set<UserId>()
    const users: UserId[] = []
    const names: string[] = []
    for (const { user_id, device_id } of messages) {
      if (device_id === everyDevice) all.add(user_id)
      else {
        users.push(user_id)
        names.push(pgText(device_id))
      }
    }
    const rows = await sql<{ user_id: UserId; device_id: string; every: boolean }[]>`
      (select user_id, device_id, true as every from devices where user_id = any(${sql.array([...all], text)}::text[])
        order by user_id, device_id limit ${most + 1})
      union all
      select d.user_id, d.device_id, false
      from unnest(${sql.array(users, text)}::text[], ${sql.array(names, text)}::text[]) as q(user_id, device_id)
      join devices d on d.user_id = q.user_id collate "C" and d.device_id = q.device_id collate "C"`
    const every = new Map<UserId, DeviceId[]>()
    const named = new Set<string>()
    let ofAll = 0
    for (const row of rows) {
      const device_id = fromPgText(row.device_id) as DeviceId
      if (!row.every) named.add(`${row.user_id}\n${device_id}`)
      else {
        ofAll++
        const known = every.get(row.user_id)
        if (known) known.push(device_id)
        else every.set(row.user_id, [device_id])
      }
    }
    return {
      isWhole: ofAll <= most,
      devices(user_id, device_id) {
        if (device_id === everyDevice) return every.get(user_id) ?? []
        return named.has(`${user_id}\n${device_id}`) ? [device_id as DeviceId] : []
      },
    }
  }

  return async (messages) => {
    // Nobody waits for what is large but who sent it.
    if (messages.length > sharedMax) return (await read(messages)).devices
    const found = Promise.withResolvers<DevicesOf>()
    waiting.push({ messages, resolve: found.resolve, reject: found.reject })
    if (!reading) {
      reading = true
      // It works for all who wait, not for the request that found it idle.
      void outsideRequests(readOn)
    }
    return found.promise
  }
}
