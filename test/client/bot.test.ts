/** A bot of another family of clients, matrix-nio: it, the server, and both are killed while it answers, and it goes on from
 *  the token that it kept. Each command is answered once, in order, also where more came meanwhile than a timeline holds. */
import * as sdk from 'matrix-js-sdk'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type CryptoClient, cryptoClient, cryptoOf } from './crypto-client.ts'
import { type Bot, bot, nioInstalled } from './nio/bot.ts'
import { until } from './sdk-client.ts'
import { text } from './sdk-server.ts'
import { type Stage, stages } from './stages.ts'

const encryption = { type: 'm.room.encryption', state_key: '', content: { algorithm: 'm.megolm.v1.aes-sha2' } }

describe.each(['one process', 'roles'] as const)('a bot with matrix-nio, %s', (name) => {
  const there = nioInstalled && stages[name].there
  let stage: Stage
  let human: CryptoClient
  let echo: Bot
  beforeAll(async () => {
    if (there) stage = await stages[name].open()
  })
  afterAll(async () => {
    human?.stopClient()
    try {
      await echo?.close()
    } finally {
      await stage?.close()
    }
  })

  test.runIf(there)('answers each command once, in order', { timeout: 400_000 }, async () => {
    const account = await stage.register('bot')
    human = await cryptoClient({ ...(await stage.register('human')), baseUrl: stage.baseUrl }, new Map())
    echo = bot(account, stage.baseUrl)
    echo.start()
    const hasKeys = async () => {
      const devices = await cryptoOf(human).getUserDeviceInfo([account.user_id], true)
      return devices.get(account.user_id)?.has(account.device_id) === true
    }
    await until(human, hasKeys, "the bot's keys")
    const rooms: string[] = []
    for (const initial_state of [[], [encryption]]) {
      const { room_id } = await human.createRoom({
        preset: sdk.Preset.PrivateChat,
        invite: [account.user_id],
        initial_state,
      })
      await until(human, () => human.getRoom(room_id)?.getJoinedMemberCount() === 2, 'the bot in the room')
      rooms.push(room_id)
    }

    let asked = 0
    const command = async (count: number) => {
      for (const upTo = asked + count; asked < upTo; asked++) {
        for (const room of rooms) await text(human, room, `!echo ${asked}`)
      }
    }
    /** The bot is another process that starts anew: on a busy machine that takes its time. */
    const answered = async (count: number) => {
      const fewest = async () => {
        const all = await Promise.all(rooms.map((room) => said(human, room, account.user_id)))
        return Math.min(...all.map(({ length }) => length))
      }
      await expect.poll(fewest, { timeout: 60_000, interval: 200 }).toBeGreaterThanOrEqual(count)
    }

    await command(3)
    await answered(3)
    // While it answers, it is killed, and more comes than one answer of sync holds.
    await command(5)
    await echo.kill()
    await command(30)
    echo.start()
    await answered(9)
    await echo.kill()
    echo.start()
    await answered(asked)
    // While it answers, the server is killed.
    await command(10)
    await stage.restart()
    await answered(asked)
    // And both.
    await command(10)
    await Promise.all([echo.kill(), stage.restart()])
    echo.start()
    await answered(asked)

    const wanted = Array.from({ length: asked }, (_, i) => `echo ${i}`)
    for (const room of rooms) {
      const bodies = async () => {
        const all = await said(human, room, account.user_id)
        return await Promise.all(
          all.map(async (raw) => {
            const event = human.getEventMapper()(raw)
            await human.decryptEventIfNeeded(event)
            return String(event.getContent().body)
          }),
        )
      }
      // The keys come when the human's client has found the server again.
      await expect.poll(bodies, { timeout: 60_000, interval: 500 }).toEqual(wanted)
    }
  })
})

/** What somebody said in a room, as the server has it, oldest first. */
async function said(client: CryptoClient, room: string, sender: string): Promise<sdk.IEvent[]> {
  const path = `/rooms/${encodeURIComponent(room)}/messages`
  const filter = JSON.stringify({ senders: [sender], types: ['m.room.message', 'm.room.encrypted'] })
  const query = { dir: 'f', limit: '500', filter }
  const { chunk } = await client.http.authedRequest<{ chunk: sdk.IEvent[] }>(sdk.Method.Get, path, query)
  return chunk
}
