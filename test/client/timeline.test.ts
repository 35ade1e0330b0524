/** Timelines: sending, paging, filtering and what relates to what, as matrix-js-sdk knows them. */
import * as sdk from 'matrix-js-sdk'
import { describe, expect, test } from 'vitest'
import { type Client, messagesIn, startSync, until } from './sdk-client.ts'
import { errcodeOf, eventOf, id, joins, membership, received, roomOf, sdkServer, sees, text } from './sdk-server.ts'

const server = sdkServer()

const bodies = (events: readonly sdk.MatrixEvent[]) =>
  events.filter((event) => event.getType() === 'm.room.message').map((event) => event.getContent().body as string)
const lines = (count: number, word = 'line') => Array.from({ length: count }, (_, i) => `${word} ${i}`)

async function says(client: Client, room: string, what: readonly string[]): Promise<string[]> {
  const sent: string[] = []
  for (const body of what) sent.push((await text(client, room, body)).event_id)
  return sent
}

const reacts = (client: Client, room: string, event_id: string, key: string) =>
  client.sendEvent(room, sdk.EventType.Reaction, {
    'm.relates_to': { rel_type: sdk.RelationType.Annotation, event_id, key },
  })

const edits = (client: Client, room: string, event_id: string, body: string) =>
  client.sendMessage(room, {
    msgtype: sdk.MsgType.Text,
    body: `* ${body}`,
    'm.new_content': { msgtype: sdk.MsgType.Text, body },
    'm.relates_to': { rel_type: sdk.RelationType.Replace, event_id },
  } as sdk.TimelineEvents['m.room.message'])

/** Two people in a room. */
async function pair() {
  const [alice, bob] = [await server.person('alice'), await server.person('bob')]
  const { room_id } = await alice.createRoom({ preset: sdk.Preset.PublicChat })
  await joins(bob, room_id)
  await until(alice, () => alice.getRoom(room_id)?.getMember(id(bob))?.membership === 'join', 'bob')
  return { alice, bob, room_id }
}

describe('client-server-api/#sending-events-to-a-room and #getting-events-for-a-room', () => {
  test('an event comes back to its device as the echo of its own, once', async () => {
    const { alice, bob, room_id } = await pair()
    const second = await server.secondDevice(alice)
    const echoes: (string | undefined)[] = []
    alice.on(sdk.RoomEvent.LocalEchoUpdated, (event, _room, oldId) => {
      if (event.getType() === 'm.room.message') echoes.push(typeof oldId === 'string' ? event.getId() : undefined)
    })
    const sending = alice.sendMessage(room_id, { msgtype: sdk.MsgType.Text, body: 'hello' }, 'a-transaction')
    expect(messagesIn(alice, room_id)).toEqual(['hello'])
    const { event_id } = await sending
    await until(alice, () => alice.getRoom(room_id)?.findEventById(event_id)?.status === null, 'the remote echo')
    const unsigned = eventOf(alice, room_id, event_id).getUnsigned()
    expect(unsigned.transaction_id).toBe('a-transaction')
    expect(echoes).toContain(event_id)
    for (const other of [second, bob]) {
      expect((await received(other, room_id, event_id)).getUnsigned().transaction_id).toBeUndefined()
    }
    // The same transaction again is the same event, and nothing new for anybody.
    const path = `/rooms/${encodeURIComponent(room_id)}/send/m.room.message/a-transaction`
    expect(await alice.http.authedRequest(sdk.Method.Put, path, undefined, { body: 'again' })).toEqual({ event_id })
    await text(alice, room_id, 'bye')
    for (const client of [alice, second, bob]) {
      await sees(client, room_id, 'bye')
      expect(messagesIn(client, room_id)).toEqual(['hello', 'bye'])
    }
  })

  test('scrollback and context page both ways without losing or doubling events', async () => {
    const [alice, bob] = [await server.person('alice'), await server.person('bob')]
    const { room_id } = await alice.createRoom({ preset: sdk.Preset.PublicChat })
    const sent = await says(alice, room_id, lines(60))
    const room = await joins(bob, room_id)
    while (
      await bob.scrollback(room, 7).then(() => room.getLiveTimeline().getPaginationToken(sdk.Direction.Backward))
    ) {
      expect(new Set(messagesIn(bob, room_id)).size).toBe(messagesIn(bob, room_id).length)
    }
    expect(messagesIn(bob, room_id)).toEqual(lines(60))
    expect(room.getLiveTimeline().getEvents()[0]?.getType()).toBe('m.room.create')

    const carol = await server.person('carol')
    const other = await joins(carol, room_id)
    const set = other.getUnfilteredTimelineSet()
    const timeline = await carol.getEventTimeline(set, sent[20] ?? '')
    if (!timeline) throw new Error('no timeline')
    expect(bodies(timeline.getEvents())).toContain('line 20')
    while (await carol.paginateEventTimeline(timeline, { backwards: true, limit: 10 }));
    expect(bodies(timeline.getEvents()).slice(0, 21)).toEqual(lines(21))
    // Forward it goes until it meets the live timeline.
    let end = timeline
    for (let i = 0; i < 20 && end !== set.getLiveTimeline(); i++) {
      const more = await carol.paginateEventTimeline(end, { backwards: false, limit: 10 })
      if (!more) end = end.getNeighbouringTimeline(sdk.Direction.Forward) ?? end
      if (!more && end.getNeighbouringTimeline(sdk.Direction.Forward) === null) break
    }
    const linked: sdk.MatrixEvent[] = []
    for (let at: sdk.EventTimeline | null = timeline; at; at = at.getNeighbouringTimeline(sdk.Direction.Forward)) {
      linked.push(...at.getEvents())
    }
    expect(bodies(linked)).toEqual(lines(60))
  })

  test('members of a room are loaded when they are needed', async () => {
    const alice = await server.person('alice')
    const { room_id } = await alice.createRoom({ preset: sdk.Preset.PublicChat })
    const others = []
    for (let i = 0; i < 14; i++) others.push(await server.process.register(`lazy${i}`))
    for (const other of others) {
      const client = sdk.createClient({
        baseUrl: server.process.baseUrl,
        accessToken: other.access_token,
        userId: other.user_id,
      })
      await client.joinRoom(room_id)
      await text(client, room_id, `from ${other.user_id}`)
    }
    const bob = await server.person('bob')
    const room = await joins(bob, room_id)
    expect(room.getMembers().length).toBeLessThan(16)
    for (const event of room.getLiveTimeline().getEvents()) expect(event.sender?.membership).toBe('join')
    expect(room.getJoinedMemberCount()).toBe(16)
    expect(await room.loadMembersIfNeeded()).toBe(true)
    expect(room.getJoinedMembers().map((member) => member.userId)).toEqual(
      expect.arrayContaining([id(alice), id(bob), ...others.map((other) => other.user_id)]),
    )
  })

  test('filters are stored, and hold for sync and paging', async () => {
    const { alice, bob, room_id } = await pair()
    await says(alice, room_id, lines(3, 'alice'))
    await says(bob, room_id, lines(3, 'bob'))
    const definition = { room: { timeline: { types: ['m.room.message'], senders: [id(bob)] } } }
    const made = await alice.createFilter(definition)
    expect((await alice.getFilter(id(alice), made.getFilterId() ?? '', false)).getDefinition()).toEqual(definition)
    const filter = new sdk.Filter(id(alice))
    filter.setDefinition({ room: { timeline: { types: ['m.room.message'], senders: [id(bob)] } } })
    const page = await alice.createMessagesRequest(room_id, null, 10, sdk.Direction.Backward, filter)
    expect(page.chunk.map((event) => event.content.body)).toEqual(['bob 2', 'bob 1', 'bob 0'])

    const carol = await server.person('carol')
    await joins(carol, room_id)
    carol.stopClient()
    const filtered = server.keep(
      sdk.createClient({
        baseUrl: server.process.baseUrl,
        accessToken: carol.getAccessToken() ?? '',
        userId: id(carol),
        deviceId: carol.getDeviceId() ?? '',
      }),
    )
    await startSync(filtered, { filter: made, initialSyncLimit: 2 })
    await says(alice, room_id, ['unheard'])
    await says(bob, room_id, ['heard'])
    await sees(filtered, room_id, 'heard')
    expect(messagesIn(filtered, room_id)).toEqual(['bob 1', 'bob 2', 'heard'])
  })

  test('one event is read by its id, redacted or not', async () => {
    const { alice, bob, room_id } = await pair()
    const { event_id } = await text(alice, room_id, 'a slip')
    expect(await bob.fetchRoomEvent(room_id, event_id)).toMatchObject({
      content: { body: 'a slip' },
      sender: id(alice),
    })
    expect(await errcodeOf(bob.fetchRoomEvent(room_id, '$unheard-of'))).toBe('M_NOT_FOUND')
    const event = await received(bob, room_id, event_id)
    const redaction = await alice.redactEvent(room_id, event_id, undefined, { reason: 'a slip it was' })
    await until(bob, () => event.isRedacted(), 'the redaction')
    expect(await bob.fetchRoomEvent(room_id, event_id)).toMatchObject({
      content: {},
      unsigned: { redacted_because: { event_id: redaction.event_id, content: { reason: 'a slip it was' } } },
    })
    const stranger = await server.person('stranger')
    expect(await errcodeOf(stranger.fetchRoomEvent(room_id, event_id))).toBe('M_NOT_FOUND')
    // Who comes later finds it redacted in the timeline too.
    const room = await joins(stranger, room_id)
    for (let i = 0; i < 5 && !room.findEventById(event_id); i++) await stranger.scrollback(room, 30)
    expect(eventOf(stranger, room_id, event_id).isRedacted()).toBe(true)
    expect(eventOf(stranger, room_id, event_id).getRedactionEvent()).toMatchObject({ event_id: redaction.event_id })
  })

  test('what was missed is found by paging back from a limited sync', async () => {
    const { alice, bob, room_id } = await pair()
    await says(alice, room_id, lines(5, 'before'))
    await sees(bob, room_id, 'before 4')
    bob.stopClient()
    await says(alice, room_id, lines(60, 'missed'))
    await alice.setRoomName(room_id, 'named meanwhile')
    await startSync(bob, { initialSyncLimit: 10 })
    await until(bob, () => bob.getRoom(room_id)?.name === 'named meanwhile', 'the state of the gap')
    const room = roomOf(bob, room_id)
    expect(messagesIn(bob, room_id)).not.toContain('missed 0')
    const set = room.getUnfilteredTimelineSet()
    const all = () => {
      const found: sdk.MatrixEvent[] = []
      for (let at: sdk.EventTimeline | null = set.getLiveTimeline(); at; ) {
        found.unshift(...at.getEvents())
        at = at.getNeighbouringTimeline(sdk.Direction.Backward)
      }
      return bodies(found)
    }
    let oldest: sdk.EventTimeline = set.getLiveTimeline()
    for (let i = 0; i < 30 && !all().includes('before 0'); i++) {
      await bob.paginateEventTimeline(oldest, { backwards: true, limit: 15 })
      oldest = oldest.getNeighbouringTimeline(sdk.Direction.Backward) ?? oldest
    }
    expect(all()).toEqual([...lines(5, 'before'), ...lines(60, 'missed')])
  })
})

describe('client-server-api/#forming-relationships-between-events', () => {
  test('edits take the place of what they edit, until they are redacted', async () => {
    const { alice, bob, room_id } = await pair()
    const { event_id } = await text(alice, room_id, 'frist')
    await received(bob, room_id, event_id)
    await edits(bob, room_id, event_id, 'not mine to edit')
    const edit = await edits(alice, room_id, event_id, 'first')
    const shown = (client: Client) => client.getRoom(room_id)?.findEventById(event_id)?.getContent().body
    await until(bob, () => shown(bob) === 'first', 'the edit')
    expect(await bob.fetchRoomEvent(room_id, event_id)).toMatchObject({
      content: { body: 'frist' },
      unsigned: { 'm.relations': { 'm.replace': { event_id: edit.event_id } } },
    })
    // A client that never saw the edit itself shows it, from what is bundled.
    const second = await server.secondDevice(bob)
    await until(second, () => shown(second) === 'first', 'the bundled edit')
    await alice.redactEvent(room_id, edit.event_id)
    await until(bob, () => shown(bob) === 'frist', 'the original')
    const event = await bob.fetchRoomEvent(room_id, event_id)
    expect(event.unsigned?.['m.relations']?.['m.replace']).toBeUndefined()
  })

  test('reactions are counted once a person, paged, and taken back', async () => {
    const { alice, bob, room_id } = await pair()
    const { event_id } = await text(alice, room_id, 'what do you think?')
    await reacts(bob, room_id, event_id, '👍')
    const heart = await reacts(alice, room_id, event_id, '❤')
    await reacts(alice, room_id, event_id, '👍')
    expect(await errcodeOf(reacts(bob, room_id, event_id, '👍'))).toBe('M_DUPLICATE_ANNOTATION')
    const keys = () => {
      const relations = roomOf(alice, room_id).relations.getChildEventsForEvent(event_id, 'm.annotation', 'm.reaction')
      const counted = (relations?.getSortedAnnotationsByKey() ?? []).map(([key, events]) => `${key} ${events.size}`)
      return counted.filter((count) => !count.endsWith(' 0')).sort()
    }
    await until(alice, () => keys().join() === ['❤ 1', '👍 2'].join(), 'the reactions')
    const first = await bob.relations(room_id, event_id, 'm.annotation', 'm.reaction', { limit: 2 })
    expect(first.originalEvent?.getId()).toBe(event_id)
    const from = first.nextBatch ?? ''
    const rest = await bob.relations(room_id, event_id, 'm.annotation', 'm.reaction', { limit: 2, from })
    expect([first.events.length, rest.events.length, rest.nextBatch ?? null]).toEqual([2, 1, null])
    await alice.redactEvent(room_id, heart.event_id)
    await until(alice, () => keys().join() === '👍 2', 'the reaction taken back')
    expect((await bob.relations(room_id, event_id, 'm.annotation', 'm.reaction')).events).toHaveLength(2)
  })

  test('threads are listed, paged and summed up', async () => {
    const { alice, bob, room_id } = await pair()
    const roots = await says(alice, room_id, ['a topic', 'another topic', 'no topic'])
    const [root = '', other = ''] = roots
    const reply = (client: Client, thread: string, body: string) =>
      client.sendEvent(room_id, thread, sdk.EventType.RoomMessage, { msgtype: sdk.MsgType.Text, body })
    for (const client of [alice, bob]) await received(client, room_id, other)
    const [opening = '', ...rest] = lines(30, 'reply')
    await reply(bob, root, opening)
    // What arrives while the SDK reads a thread that it has just heard of, it may put in before what it reads.
    await until(alice, () => roomOf(alice, room_id).getThread(root)?.initialEventsFetched === true, 'the thread')
    for (const body of rest) await reply(bob, root, body)
    await reply(alice, other, 'mine')
    const replies = () => bodies(alice.getRoom(room_id)?.getThread(root)?.events ?? [])
    await until(alice, () => replies().at(-1) === 'reply 29', 'the last reply')
    expect(replies().filter((body) => body !== 'a topic')).toEqual(lines(30, 'reply'))

    const listed = await bob.createThreadListMessagesRequest(room_id, null, 10)
    // The SDK turns the page around: the newest comes last.
    expect(listed.chunk.map((event) => event.event_id)).toEqual([root, other])
    const mine = await bob.createThreadListMessagesRequest(
      room_id,
      null,
      10,
      sdk.Direction.Backward,
      sdk.ThreadFilterType.My,
    )
    expect(mine.chunk.map((event) => event.event_id)).toEqual([root])
    expect(mine.chunk[0]?.unsigned?.['m.relations']?.['m.thread']).toMatchObject({
      count: 30,
      current_user_participated: true,
      latest_event: { content: { body: 'reply 29' } },
    })

    const fresh = await server.secondDevice(alice)
    await until(fresh, () => membership(fresh, room_id) === 'join', 'the room')
    const room = roomOf(fresh, room_id)
    await room.createThreadsTimelineSets()
    await room.fetchRoomThreads()
    expect(room.getThreads().map((thread) => thread.id)).toEqual(expect.arrayContaining([root, other]))
    const thread = room.getThread(root)
    if (!thread) throw new Error('no thread')
    await until(fresh, () => thread.initialEventsFetched && thread.length === 30, 'the summary')
    while (await fresh.paginateEventTimeline(thread.liveTimeline, { backwards: true, limit: 10 }));
    expect(bodies(thread.events)).toEqual(['a topic', ...lines(30, 'reply')])
    // What is said in a thread is not part of the main timeline.
    expect(messagesIn(fresh, room_id)).not.toContain('reply 29')
  })
})
