/** matrix-js-sdk clients against a running server. */
import * as sdk from 'matrix-js-sdk'
import type { CryptoCallbacks } from 'matrix-js-sdk/lib/crypto-api/index.js'
import type { Logger } from 'matrix-js-sdk/lib/logger.js'

const ignore = () => {}
const silent: Logger = {
  trace: ignore,
  debug: ignore,
  info: ignore,
  warn: ignore,
  error: ignore,
  getChild: () => silent,
}

export type Client = sdk.MatrixClient

const waitMs = 20_000
/** What the SDK works out after an event, such as a thread's summary, tells nobody when it is there. */
const lookEveryMs = 50

/** A client that is stopped and started again goes on where it was, as one with a store on disk does. */
class KeptStore extends sdk.MemoryStore {
  override getSavedSyncToken(): Promise<string | null> {
    return Promise.resolve(this.getSyncToken())
  }
}

export interface Account {
  readonly user_id: string
  readonly access_token: string
  readonly device_id: string
}

const startOptions: sdk.IStartClientOpts = {
  initialSyncLimit: 20,
  threadSupport: true,
  lazyLoadMembers: true,
  pollTimeout: 10_000,
}

/** A client of this account that does not sync yet. */
export function quietClient(
  options: Account & { baseUrl: string; fetchFn?: typeof fetch; cryptoCallbacks?: CryptoCallbacks },
): Client {
  return sdk.createClient({
    baseUrl: options.baseUrl,
    ...(options.fetchFn ? { fetchFn: options.fetchFn } : {}),
    ...(options.cryptoCallbacks ? { cryptoCallbacks: options.cryptoCallbacks } : {}),
    userId: options.user_id,
    accessToken: options.access_token,
    deviceId: options.device_id,
    disableVoip: true,
    logger: silent,
    timelineSupport: true,
    store: new KeptStore(),
  })
}

/** Lets a client sync; resolves when its first sync is done. */
export async function startSync(client: Client, options: sdk.IStartClientOpts = {}): Promise<void> {
  const synced = new Promise<void>((resolve) => {
    const listener = (state: sdk.SyncState) => {
      if (state !== sdk.SyncState.Prepared && state !== sdk.SyncState.Syncing) return
      client.removeListener(sdk.ClientEvent.Sync, listener)
      resolve()
    }
    client.on(sdk.ClientEvent.Sync, listener)
  })
  await client.startClient({ ...startOptions, ...options })
  await synced
}

/** Resolves when `condition` holds; it is looked at after every sync answer and event, and now and then. */
export function until(client: Client, condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let done = false
    const events = [
      sdk.ClientEvent.Sync,
      sdk.ClientEvent.Event,
      sdk.ClientEvent.AccountData,
      sdk.ClientEvent.Room,
      sdk.RoomEvent.Timeline,
      sdk.RoomEvent.Receipt,
      sdk.RoomEvent.MyMembership,
      sdk.RoomEvent.Tags,
      sdk.RoomEvent.Redaction,
      sdk.RoomEvent.LocalEchoUpdated,
      sdk.RoomEvent.UnreadNotifications,
      sdk.RoomMemberEvent.Typing,
      sdk.RoomMemberEvent.Membership,
      sdk.RoomMemberEvent.Name,
      sdk.RoomStateEvent.Events,
      sdk.UserEvent.Presence,
    ] as const
    const finish = (error?: Error) => {
      done = true
      clearTimeout(timer)
      clearInterval(looking)
      for (const event of events) client.removeListener(event as never, look as never)
      if (error) reject(error)
      else resolve()
    }
    const look = () => {
      if (done) return
      Promise.resolve()
        .then(condition)
        .then((holds) => {
          if (holds && !done) finish()
        }, finish)
    }
    const timer = setTimeout(() => finish(new Error(`waited ${waitMs} ms in vain for ${what}`)), waitMs)
    const looking = setInterval(look, lookEveryMs)
    for (const event of events) client.on(event as never, look as never)
    look()
  })
}

/** Texts of the messages in a room's live timeline, oldest first. */
export function messagesIn(client: Client, roomId: string): string[] {
  const events = client.getRoom(roomId)?.getLiveTimeline().getEvents() ?? []
  return events
    .filter((event) => event.getType() === 'm.room.message')
    .map((event) => event.getContent().body as string)
}
