/** Databases of operators have all kinds of locales. None may show: neither in orders nor in what equals what. */
import { expect, test } from 'vitest'
import { createMonolith } from '../../functions/monolith/monolith.ts'
import { configFrom } from '../../shared/config/load.ts'
import { silentLogger } from '../../shared/logging.ts'
import { connectForReading } from '../../shared/storage/sql.ts'
import { testDatabase } from '../support/database.ts'

const v3 = '/_matrix/client/v3'
const encode = encodeURIComponent

/** Where locales differ: in case, accents, punctuation, digits, and beyond the first plane. */
const names = [
  'b',
  'B',
  'a',
  'Z',
  '\u00e9a',
  'ea',
  'E\u0301a',
  'a_b',
  'a-b',
  'ab',
  '10',
  '9',
  '\u00df',
  'ss',
  '\u{1F600}',
  '\uffee',
  'I\u0307',
  '\u0131',
]

/** What a client sees, with ids and times taken out. */
async function seen(create: string): Promise<unknown> {
  const database = await testDatabase({ create })
  const config = configFrom({
    server_name: 'test.example',
    data_dir: database.folder,
    listeners: [{ port: 0 }],
    database: { url: database.url },
    registration: { enabled: true },
    password: { bcrypt_rounds: 4 },
    rate_limits: { enabled: false },
  })
  const monolith = await createMonolith(config, { log: silentLogger })
  const ids = new Map<string, string>()
  let token = ''
  const call = async (method: string, target: string, body?: object) => {
    const answer = await fetch(`${monolith.addresses[0]}${v3}${target}`, {
      method,
      headers: token === '' ? {} : { authorization: `Bearer ${token}` },
      ...(body ? { body: JSON.stringify(body) } : {}),
    })
    const text = await answer.text()
    if (!answer.ok) throw new Error(`${method} ${target}: ${answer.status} ${text}`)
    return JSON.parse(text)
  }
  const plain = (value: unknown): unknown => {
    const text = JSON.stringify(value, (key, inner) =>
      /^(?:origin_server_ts|age|last_active_ago|next_batch|prev_batch|ts|hashes|signatures)$/.test(key) ? 0 : inner,
    )
    return JSON.parse(
      text.replaceAll(/[!$][\w-]{43}/g, (id) => {
        if (!ids.has(id)) ids.set(id, `id ${ids.size}`)
        return ids.get(id) ?? id
      }),
    )
  }
  try {
    const register = async (username: string) => {
      token = ''
      const body = { username, password: 'correct horse', auth: { type: 'm.login.dummy' } }
      token = (await call('POST', '/register', body)).access_token
      return token
    }
    const other = await register('zoe_other')
    await register('alice')
    const rooms: string[] = []
    for (const name of names) {
      const made = await call('POST', '/createRoom', { preset: 'public_chat', visibility: 'public', name, topic: name })
      rooms.push(made.room_id)
      ids.set(made.room_id, `room ${name}`)
    }
    const room = encode(String(rooms[0]))
    for (const name of names) {
      await call('PUT', `/rooms/${room}/state/org.test.${encode(name)}/${encode(name)}`, { name })
      await call('PUT', `/user/@alice:test.example/account_data/org.test.${encode(name)}`, { name })
      await call('PUT', `/user/@alice:test.example/rooms/${room}/tags/u.${encode(name)}`, {})
      await call('PUT', `/directory/room/${encode(`#${name.normalize('NFC')}:test.example`)}`, { room_id: rooms[0] })
    }
    const searches: unknown[] = []
    for (const generic_search_term of ['a', 'E', 'i', 'ss', '_', '\u00c9', '%']) {
      const found = await call('POST', '/publicRooms', { filter: { generic_search_term } })
      searches.push(found.chunk.map((room: { name: string }) => room.name))
    }
    const members: string[] = []
    for (const name of ['b_b', 'b-b', 'bb', 'b=b', 'b10', 'b9']) {
      await register(name)
      members.push(token)
      await call('POST', `/join/${room}`, {})
      await call('PUT', `/profile/@${encode(name)}:test.example/displayname`, { displayname: name.toUpperCase() })
    }
    token = other
    const directory = await call('GET', '/publicRooms?limit=50')
    token = members[0] ?? ''
    const sync = await call('GET', '/sync')
    const state = await call('GET', `/rooms/${room}/state`)
    const roster = await call('GET', `/rooms/${room}/members`)
    const messages = await call('GET', `/rooms/${room}/messages?dir=f&limit=100`)
    const aliases = await call('GET', `/rooms/${room}/aliases`)
    // Also beyond ASCII, whatever the locale knows of letters.
    expect(searches[5]).toEqual(['\u00e9a'])
    expect(searches[4]).toEqual(['a_b'])
    return plain({ directory, searches, sync, state, roster, messages, aliases })
  } finally {
    await monolith.close()
    await database.drop()
  }
}

test('a database of any locale gives the same answers', { timeout: 120_000 }, async () => {
  const server = connectForReading({
    url: process.env.GANGLION_TEST_DATABASE_URL ?? '',
    connections: 1,
    applicationName: 'ganglion-test',
  })
  // The embedded server is built without ICU, or with it: what there is decides.
  const [icu] = await server`select 1 from pg_collation where collprovider = 'i' limit 1`
  await server.end()
  const c = await seen(`template template0 locale 'C' encoding 'UTF8'`)
  expect(await seen(`template template0 locale 'C.UTF-8' encoding 'UTF8'`)).toEqual(c)
  if (icu) {
    const locale = `template template0 locale 'C.UTF-8' locale_provider icu icu_locale 'en-US' encoding 'UTF8'`
    expect(await seen(locale)).toEqual(c)
  } else console.log('this PostgreSQL has no ICU: its locales are left out')
})
