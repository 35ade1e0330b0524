/** `ganglion resolve-state`: state resolution on cases from standard input, one JSON object a line. Opens no database and
 *  no socket: for fuzzing, for reproducing a report, and for looking into a room that split. */

import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import * as v from 'valibot'
import { type RoomRules, rulesOf } from '../../shared/core/room-versions.ts'
import { resolveState as resolve } from '../../shared/core/state-resolution/resolve.ts'
import { type StateMap, stateKey } from '../../shared/core/state-resolution/state-sets.ts'
import { parseText } from '../../shared/matrix/engine-json.ts'
import type { EventId, RoomId, UserId } from '../../shared/matrix/ids.ts'
import { isJsonObject, type JsonObject } from '../../shared/matrix/json-value.ts'
import type { Pdu } from '../../shared/matrix/pdu.ts'
import { type Command, UsageError } from './command.ts'

export const resolveState: Command = {
  help: `
Usage: ganglion resolve-state < cases > answers

Reads one case a line:
  {"id": "any text", "room_version": "12", "events": {"$event_id": PDU, …}, "state_sets": [["$event_id", …], …]}
and answers each with one line, in the same order:
  {"id": "any text", "state": ["$event_id", …]}   the resolved state, ids sorted
  {"id": "any text", "error": "what is wrong with the case"}

"events" holds every event that a state set or an auth chain refers to, under the ids that are to be used; hashes and
signatures are not checked. Each state set is the whole state at one fork.`,
  run(args) {
    if (args.length > 0) throw new UsageError('resolve-state takes no arguments: cases are read from standard input')
    return resolveStateCommand(process.stdin, process.stdout)
  },
}

/** Answers every line; returns the exit code. */
export async function resolveStateCommand(stdin: Readable, stdout: Writable): Promise<number> {
  for await (const line of createInterface({ input: stdin, crlfDelay: Number.POSITIVE_INFINITY })) {
    if (!stdout.write(`${JSON.stringify(answer(line))}\n`)) await once(stdout, 'drain')
  }
  return 0
}

type Answer = { readonly id: unknown } & ({ readonly state: readonly string[] } | { readonly error: string })

const id = v.pipe(v.string(), v.minLength(1))
const Case = v.object({
  room_version: v.string(),
  events: v.record(v.string(), v.unknown()),
  state_sets: v.array(v.array(id)),
})
/** `[event_id, hashes]` in room versions 1 and 2. */
const reference = v.union([
  id,
  v.pipe(
    v.looseTuple([id]),
    v.transform(([event_id]) => event_id),
  ),
])
const CasePdu = v.object({
  type: v.string(),
  state_key: v.optional(v.string()),
  sender: v.string(),
  room_id: v.optional(v.string()),
  content: v.custom<JsonObject>(isJsonObject, 'content is not an object'),
  auth_events: v.array(reference),
  prev_events: v.optional(v.array(reference), []),
  depth: v.optional(v.number(), 0),
  origin_server_ts: v.number(),
  redacts: v.optional(v.string()),
})

function answer(line: string): Answer {
  let id: unknown = null
  try {
    const read: unknown = parseText(line)
    if (!isJsonObject(read)) throw new Error('a case is a JSON object')
    id = read.id ?? null
    return { id, state: resolvedState(read) }
  } catch (error) {
    return { id, error: error instanceof Error ? error.message : String(error) }
  }
}

function resolvedState(read: JsonObject): string[] {
  const { room_version, events, state_sets } = checked(Case, read, 'case')
  const rules = rulesOf(room_version)
  if (!rules) throw new Error(`room version ${room_version} is not known`)
  const wire = new Map(Object.entries(events))
  const pdus = new Map<string, Pdu>()
  const event = (event_id: EventId): Pdu | undefined => {
    let pdu = pdus.get(event_id)
    if (!pdu && wire.has(event_id)) {
      pdu = pduOf(rules, event_id, wire.get(event_id))
      pdus.set(event_id, pdu)
    }
    return pdu
  }
  const sets = state_sets.map((ids) => stateMapOf(ids as EventId[], event))
  return [...resolve(rules, sets, event).values()].sort()
}

function pduOf(rules: RoomRules, event_id: EventId, wire: unknown): Pdu {
  const { room_id, redacts, state_key, ...read } = checked(CasePdu, wire, `event ${event_id}`)
  const isHashCreate = rules.roomIdIsCreateHash && read.type === 'm.room.create'
  if (room_id === undefined && !isHashCreate) throw new Error(`event ${event_id}: room_id is missing`)
  return {
    ...read,
    event_id,
    room_id: (isHashCreate ? `!${event_id.slice(1)}` : room_id) as RoomId,
    sender: read.sender as UserId,
    auth_events: read.auth_events as EventId[],
    prev_events: read.prev_events as EventId[],
    ...(state_key === undefined ? {} : { state_key }),
    ...(redacts === undefined ? {} : { redacts: redacts as EventId }),
  }
}

function stateMapOf(ids: readonly EventId[], event: (id: EventId) => Pdu | undefined): StateMap {
  const state = new Map<string, EventId>()
  for (const event_id of ids) {
    const pdu = event(event_id)
    if (!pdu) throw new Error(`event ${event_id} is missing`)
    if (pdu.state_key === undefined) throw new Error(`event ${event_id} of a state set is no state event`)
    const key = stateKey(pdu.type, pdu.state_key)
    const other = state.get(key)
    if (other !== undefined && other !== event_id) {
      throw new Error(`events ${other} and ${event_id} of one state set have the same type and state_key`)
    }
    state.set(key, event_id)
  }
  return state
}

function checked<S extends v.GenericSchema>(schema: S, value: unknown, what: string): v.InferOutput<S> {
  const result = v.safeParse(schema, value)
  if (result.success) return result.output
  const [issue] = result.issues
  const path = issue && v.getDotPath(issue)
  throw new Error(`${what}: ${path ? `${path}: ` : ''}${issue?.message}`)
}
