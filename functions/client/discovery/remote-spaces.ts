/** Rooms of a space that this server is not in, as servers that are in them tell of them.
 *  https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid */
import { LRUCache } from 'lru-cache'
import * as v from 'valibot'
import { RemoteError } from '../../../shared/federation/federation-client.ts'
import { entriesUpTo } from '../../../shared/lru-bound.ts'
import { RoomId, ServerName, UserId } from '../../../shared/matrix/ids.ts'
import type { ClientDeps } from '../deps.ts'

const text = v.pipe(v.string(), v.maxLength(10_000))
const childrenMax = 1_000

const Summary = v.object({
  room_id: RoomId,
  num_joined_members: v.number(),
  world_readable: v.boolean(),
  guest_can_join: v.boolean(),
  room_version: v.optional(text),
  name: v.optional(text),
  topic: v.optional(text),
  canonical_alias: v.optional(text),
  avatar_url: v.optional(text),
  join_rule: v.optional(text),
  room_type: v.optional(text),
  encryption: v.optional(text),
  allowed_room_ids: v.optional(v.pipe(v.array(v.string()), v.maxLength(1_000))),
})
export type RemoteSummary = v.InferOutput<typeof Summary>

const Child = v.object({
  type: v.literal('m.space.child'),
  state_key: text,
  sender: UserId,
  origin_server_ts: v.number(),
  content: v.record(v.string(), v.unknown()),
})

const Answer = v.object({
  room: v.object({ ...Summary.entries, children_state: v.pipe(v.array(v.unknown()), v.maxLength(childrenMax)) }),
  children: v.pipe(v.array(v.unknown()), v.maxLength(childrenMax)),
})

export interface RemoteSpace {
  readonly room: RemoteSummary
  readonly links: readonly v.InferOutput<typeof Child>[]
  /** Of the rooms that it links to, as far as that server knows them and lets this one know. */
  readonly children: readonly RemoteSummary[]
}

const serversMax = 3
const totalMs = 10_000
const answerBytesMax = 8 * 1024 * 1024
const keptMs = 60_000

interface Kept {
  readonly at: number
  readonly space: RemoteSpace
}
const caches = new WeakMap<object, LRUCache<string, Kept>>()

/** undefined: none of the servers tells of it. */
export async function remoteSpace(
  { federation, clock }: ClientDeps,
  room_id: string,
  via: readonly string[],
): Promise<RemoteSpace | undefined> {
  let kept = caches.get(federation)
  if (!kept) {
    kept = new LRUCache<string, Kept>({ ...entriesUpTo(200) })
    caches.set(federation, kept)
  }
  const known = kept.get(room_id)
  if (known && clock.now() - known.at < keptMs) return known.space
  const servers = via.flatMap((name) => (v.is(ServerName, name) ? [name as ServerName] : []))
  const uri = `/_matrix/federation/v1/hierarchy/${encodeURIComponent(room_id)}?suggested_only=false`
  for (const server of servers.slice(0, serversMax)) {
    try {
      const limits = { totalMs, bytesMax: answerBytesMax }
      const answer = v.safeParse(Answer, await federation.client.json(server, { method: 'GET', uri, limits }))
      if (!answer.success || answer.output.room.room_id !== room_id) continue
      const { room, children } = answer.output
      const { children_state, ...summary } = room
      const space = {
        room: summary,
        links: children_state.flatMap((child) => parsed(Child, child)),
        children: children.flatMap((child) => parsed(Summary, child)),
      }
      kept.set(room_id, { at: clock.now(), space })
      return space
    } catch (error) {
      // The next one may know more.
      if (!(error instanceof RemoteError)) throw error
    }
  }
  return undefined
}

function parsed<Schema extends v.GenericSchema>(schema: Schema, value: unknown): v.InferOutput<Schema>[] {
  const result = v.safeParse(schema, value)
  return result.success ? [result.output] : []
}
