/** Commands of what comes from other servers. */
import * as v from 'valibot'
import { ServerKey } from '../federation/key-document.ts'
import { ServerName } from '../matrix/ids.ts'
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
} as const
