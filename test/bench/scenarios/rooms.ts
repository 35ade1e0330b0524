import { drive } from '../measure.ts'
import { check, createRoom, join, measured, registerMany, type Scenario, send } from '../scenario.ts'

/** /messages in pages of 50; createRoom; join to a room of 500. */
export const rooms: Scenario = async (bench) => {
  const [owner, ...others] = await registerMany(bench, 'member', 520)
  if (!owner) throw new Error('no users')
  const long = await createRoom(bench, owner)
  await drive(2_000, 10, async (i) => {
    await send(bench, owner, long, `message ${i}`)
  })
  const path = `/_matrix/client/v3/rooms/${encodeURIComponent(long)}/messages?dir=b&limit=50`
  const starts = [path]
  for (let i = 0; i < 30; i++) {
    const page = await bench.http.json<{ end: string }>('GET', starts.at(-1) ?? path, owner.token)
    starts.push(`${path}&from=${page.end}`)
  }
  const page = async (i: number) => {
    const answer = await bench.http.json<{ chunk: unknown[] }>('GET', starts[i % starts.length] ?? path, owner.token)
    check(answer.chunk.length === 50, `a page of ${answer.chunk.length}`)
  }
  await drive(500, 20, page)
  const messages = await measured(bench, '/messages, pages of 50', () => drive(6_000, 20, page))

  await drive(20, 1, async () => void (await createRoom(bench, owner)))
  const creates = await measured(bench, 'createRoom', () =>
    drive(200, 1, async () => void (await createRoom(bench, owner))),
  )

  const big = await createRoom(bench, owner)
  await drive(499, 4, (i) => join(bench, others[i] ?? owner, big))
  const joins = await measured(bench, 'join to a room of 500', () =>
    drive(20, 1, (i) => join(bench, others[499 + i] ?? owner, big)),
  )
  return [messages, creates, joins]
}
