/** matrix-js-sdk clients against a running server. */
import * as sdk from 'matrix-js-sdk'
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

/** A client of this account that syncs; resolves when its first sync is done. */
export async function startedClient(options: {
  baseUrl: string
  user_id: string
  access_token: string
  device_id: string
}): Promise<Client> {
  const client = sdk.createClient({
    baseUrl: options.baseUrl,
    userId: options.user_id,
    accessToken: options.access_token,
    deviceId: options.device_id,
    disableVoip: true,
    logger: silent,
    timelineSupport: true,
  })
  await client.startClient({ initialSyncLimit: 20, threadSupport: true, lazyLoadMembers: true, pollTimeout: 10_000 })
  await until(client, () => client.isInitialSyncComplete(), 'the first sync')
  return client
}

/** Resolves when `condition` holds; it is looked at after every sync answer and every event. */
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
