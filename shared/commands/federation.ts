/** Commands of what comes from other servers. */
import * as v from 'valibot'
import { ServerKey } from '../federation/key-document.ts'
import { EventId, RoomId, ServerName } from '../matrix/ids.ts'
import { defineCommand } from './define.ts'
import { Content } from './rooms.ts'

export const federationCommands = {
  /** Keeps what servers published about their keys; whoever calls has checked it. Keys that are not in a document stay. */
  storeServerKeys: defineCommand({
    name: 'storeServerKeys',
    request: v.object({
      servers: v.pipe(
        v.array(
          v.object({
            server_name: ServerName,
            keys: v.array(ServerKey),
            document: Content,
            valid_until_ts: v.number(),
          }),
        ),
        v.maxLength(1_000),
      ),
    }),
    response: v.object({}),
    shard: () => undefined,
    repetition: 'harmless',
  }),

  /** A server that was taken for dead gave a sign of life: what waits for it is sent at once. */
  serverAlive: defineCommand({
    name: 'serverAlive',
    request: v.object({ server_name: ServerName }),
    response: v.object({}),
    shard: () => undefined,
    repetition: 'harmless',
  }),

  /** Events of one room that another server sent: of the room's version, with their content hashed and all signatures
   *  checked. Answered when they are stored, or wait durably for what they build on. */
  receivePdus: defineCommand({
    name: 'receivePdus',
    request: v.object({
      room_id: RoomId,
      room_version: v.string(),
      origin: ServerName,
      events: v.pipe(
        v.array(v.object({ event_id: EventId, envelope: v.string(), content: v.string() })),
        v.maxLength(50),
      ),
    }),
    response: v.object({}),
    shard: ({ room_id }) => room_id,
    repetition: 'harmless',
  }),
  /** What another server says in passing. Answered when all that has to last does. */
  receiveEdus: defineCommand({
    name: 'receiveEdus',
    request: v.object({
      origin: ServerName,
      edus: v.pipe(v.array(v.object({ edu_type: v.string(), content: Content })), v.maxLength(100)),
    }),
    response: v.object({}),
    shard: () => undefined,
    repetition: 'harmless',
  }),
} as const
