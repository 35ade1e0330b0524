/** `GANGLION_TEST_DATABASE_URL=… node test/storage/commit.bench.ts`: what a message event costs the committer in CPU of
 *  Node and of its Postgres backend (Linux, the server on this machine), in batches of one and of ten. */
import { readFile } from 'node:fs/promises'
import { createCommitter } from '../../functions/main/persist/committer.ts'
import { createNids } from '../../functions/main/persist/nids.ts'
import type { Writes } from '../../functions/main/persist/writes.ts'
import { systemClock } from '../../shared/clock.ts'
import type { EventId, RoomId, UserId } from '../../shared/matrix/ids.ts'
import { createInProcessReplication } from '../../shared/replication/in-process.ts'
import { testDatabase } from '../support/database.ts'

const database = await testDatabase()
const { sql } = database
const nids = createNids(sql)
const committer = createCommitter({ sql, publisher: createInProcessReplication({}, systemClock), clock: systemClock })
const sender = '@alice:example.org' as UserId
const ticksPerSecond = 100

async function backendCpuMs(): Promise<number> {
  const rows = await database.read<{ pid: number }[]>`
    select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`
  let ticks = 0
  for (const { pid } of rows) {
    const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(') ')[1]?.split(' ') ?? []
    ticks += Number(fields[11]) + Number(fields[12])
  }
  return (ticks * 1000) / ticksPerSecond
}

async function message(room_nid: number): Promise<Writes> {
  const event_nid = await nids.next()
  const event_id = `$${Buffer.from(`event ${event_nid}`.padEnd(32, 'x')).toString('base64url')}` as EventId
  const room_id = '!room:example.org' as RoomId
  const content = JSON.stringify({ body: `A message of an ordinary length, number ${event_nid}`, msgtype: 'm.text' })
  const envelope = JSON.stringify({
    auth_events: [event_id, event_id, event_id],
    prev_events: [event_id],
    depth: event_nid,
    hashes: { sha256: event_id.slice(1) },
    signatures: { 'example.org': { 'ed25519:a_abcd': event_id + event_id } },
    origin_server_ts: 1_700_000_000_000,
    room_id,
    sender,
    type: 'm.room.message',
  })
  const row = { event_nid, event_id, room_nid, room_id, type: 'm.room.message', sender, content, push: 1 }
  return {
    events: [
      {
        row: { ...row, origin_server_ts: 1_700_000_000_000, device_id: 'DEVICE', txn_id: `m${event_nid}` },
        envelope,
        depth: event_nid,
        state_root: 1,
        flags: 0,
        visible: true,
        current_state: false,
      },
    ],
    heads: [{ room_nid, forward_extremities: [event_nid], state_root: 1, depth: event_nid }],
    idempotency: { scope: `${sender} DEVICE`, key: `m${event_nid}`, response: `{"event_id":"${event_id}"}` },
  }
}

async function measure(events: number, batch: number): Promise<void> {
  const writes: Writes[] = []
  for (let i = 0; i < events; i++) writes.push(await message(1 + (i % 50)))
  const before = { cpu: process.cpuUsage(), postgres: await backendCpuMs(), start: performance.now() }
  for (let i = 0; i < writes.length; i += batch)
    await Promise.all(writes.slice(i, i + batch).map((one) => committer.commit(one)))
  const elapsed = performance.now() - before.start
  const cpu = process.cpuUsage(before.cpu)
  const postgres = (await backendCpuMs()) - before.postgres
  process.stdout.write(
    `${JSON.stringify({
      batch,
      node_ms_per_event: (cpu.user + cpu.system) / 1000 / events,
      postgres_ms_per_event: postgres / events,
      ms_per_commit: elapsed / (events / batch),
    })}\n`,
  )
}

try {
  for (let room_nid = 1; room_nid <= 50; room_nid++) {
    const room_id = `!room${room_nid}:example.org`
    await committer.commit({
      rooms: [{ room_nid, room_id, room_version: '12', creator: sender, created_ts: 0, published: false }],
    })
  }
  await measure(3_000, 10)
  await measure(10_000, 10)
  await measure(10_000, 50)
  await measure(5_000, 1)
} finally {
  await committer.close()
  await database.drop()
}
