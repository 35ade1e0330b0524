/** A server in a process of its own for the tests of one file, and people with matrix-js-sdk clients on it. */
import * as sdk from 'matrix-js-sdk'
import { afterAll, afterEach, beforeAll } from 'vitest'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { type ServerProcess, type ServerProcessOptions, serverProcess } from '../support/server-process.ts'
import { type Account, type Client, messagesIn, quietClient, startSync, until } from './sdk-client.ts'

export type Person = Client & { readonly password: string }

export interface SdkServer {
  readonly process: ServerProcess
  /** A new account with a client that syncs. */
  person(name: string, options?: sdk.IStartClientOpts): Promise<Person>
  /** One more device of a person. */
  secondDevice(of: Person, options?: sdk.IStartClientOpts): Promise<Person>
  /** A client without an account. */
  stranger(): Client
  /** A client that is stopped after the test. */
  keep<T extends Client>(client: T): T
}

export function sdkServer(config?: ServerProcessOptions['config']): SdkServer {
  let database: TestDatabase | undefined
  let server: ServerProcess | undefined
  let clients: Client[] = []
  let names = 0

  beforeAll(async () => {
    database = await testDatabase()
    server = await serverProcess({ databaseUrl: database.url, ...(config === undefined ? {} : { config }) })
    await server.start()
  })
  afterEach(() => {
    for (const client of clients) client.stopClient()
    clients = []
  })
  afterAll(async () => {
    await server?.close()
    await database?.drop()
  })

  const running = () => {
    if (!server) throw new Error('the server has not been started')
    return server
  }
  const keep = <T extends Client>(client: T) => {
    clients.push(client)
    return client
  }
  async function started(account: Account & { password: string }, options?: sdk.IStartClientOpts): Promise<Person> {
    const client = keep(quietClient({ baseUrl: running().baseUrl, ...account }))
    await startSync(client, options)
    return Object.assign(client, { password: account.password })
  }

  return {
    get process() {
      return running()
    },
    async person(name, options) {
      return await started(await running().register(`${name}${names++}`), options)
    },
    async secondDevice(of, options) {
      const login = await sdk.createClient({ baseUrl: running().baseUrl }).loginWithPassword(id(of), of.password)
      return await started({ ...login, password: of.password }, options)
    },
    stranger: () => sdk.createClient({ baseUrl: running().baseUrl }),
    keep,
  }
}

export const id = (client: Client) => client.getSafeUserId()

export const text = (client: Client, room: string, body: string) =>
  client.sendMessage(room, { msgtype: sdk.MsgType.Text, body })

export const sees = (client: Client, room: string, body: string) =>
  until(client, () => messagesIn(client, room).includes(body), `"${body}" in the timeline`)

export const membership = (client: Client, room: string) => client.getRoom(room)?.getMyMembership()

/** Waits until the client sees this membership of its own. */
export const becomes = (client: Client, room: string, wanted: string) =>
  until(client, () => membership(client, room) === wanted, `membership ${wanted}`)

export async function joins(client: Client, room: string): Promise<sdk.Room> {
  await client.joinRoom(room)
  await becomes(client, room, 'join')
  return roomOf(client, room)
}

export function roomOf(client: Client, roomId: string): sdk.Room {
  const room = client.getRoom(roomId)
  if (!room) throw new Error(`the client has no room ${roomId}`)
  return room
}

export function eventOf(client: Client, roomId: string, eventId: string): sdk.MatrixEvent {
  const event = roomOf(client, roomId).findEventById(eventId)
  if (!event) throw new Error(`the client has no event ${eventId}`)
  return event
}

/** Waits until the client has the event, and returns it. */
export async function received(client: Client, roomId: string, eventId: string): Promise<sdk.MatrixEvent> {
  await until(client, () => client.getRoom(roomId)?.findEventById(eventId) !== undefined, `event ${eventId}`)
  return eventOf(client, roomId, eventId)
}

export const errcodeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'no error',
    (error: sdk.MatrixError) => error.errcode,
  )

/** The password stage of user-interactive authentication. */
export const passwordAuth = (person: Person, password = person.password) =>
  ({ type: 'm.login.password', identifier: { type: 'm.id.user', user: id(person) }, password }) as sdk.AuthDict
