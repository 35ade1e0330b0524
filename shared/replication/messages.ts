/** What goes through Redis's one channel of streams: updates, beats of mains, and word of a restored database. One line of
 *  JSON each. Rows are serialised once: the text of an update is also what the stream's log keeps. */
import * as v from 'valibot'
import { StreamPosition, type StreamUpdate } from '../streams/define.ts'
import { type RowOf, type StreamName, streamNames, streams } from '../streams/registry.ts'

/** Over REST a line ends at 1 MiB; a row has at most two events' contents. */
const partCharactersMax = 256 * 1024

export type AnyUpdate = { readonly [S in StreamName]: { readonly stream: S } & StreamUpdate<RowOf<S>> }[StreamName]

export type PositionsText = Readonly<Partial<Record<StreamName, StreamPosition>>>

export type Message =
  | { readonly kind: 'updates'; readonly from: string; readonly ts: number; readonly updates: readonly AnyUpdate[] }
  | { readonly kind: 'beat'; readonly from: string; readonly ts: number; readonly positions: PositionsText }
  | { readonly kind: 'restored'; readonly from: string; readonly ts: number; readonly positions: PositionsText }

const time = v.pipe(v.number(), v.minValue(0))
const positions = v.pipe(
  v.record(v.string(), StreamPosition),
  // A newer version may have streams that this one does not know.
  v.transform((found): PositionsText => {
    const known: Partial<Record<StreamName, StreamPosition>> = {}
    for (const name of streamNames) if (found[name] !== undefined) known[name] = found[name]
    return known
  }),
)
const Head = v.variant('kind', [
  v.object({ from: v.string(), ts: time, kind: v.literal('updates'), updates: v.array(v.unknown()) }),
  v.object({ from: v.string(), ts: time, kind: v.literal('beat'), positions }),
  v.object({ from: v.string(), ts: time, kind: v.literal('restored'), positions }),
])
const Named = v.object({ stream: v.string() })
const schemas = Object.fromEntries(
  streamNames.map((name) => [
    name,
    v.object({
      stream: v.literal(name),
      prev: StreamPosition,
      position: StreamPosition,
      rows: v.array(streams[name].row as v.GenericSchema<unknown, RowOf<StreamName>>),
    }),
  ]),
)

/** One text for each part of the update: large ones are cut between rows, so that each is an update of its own. */
export function encodeUpdate<S extends StreamName>(stream: S, update: StreamUpdate<RowOf<S>>): EncodedUpdate[] {
  const parts: EncodedUpdate[] = []
  let rows = ''
  let prev: number = update.prev
  const end = (position: number) => {
    const text = `{"stream":"${stream}","prev":${prev},"position":${position},"rows":[${rows}]}`
    parts.push({ stream, position: position as StreamPosition, text })
    rows = ''
    prev = position
  }
  for (const row of update.rows as readonly { readonly position: number }[]) {
    const text = JSON.stringify(row)
    if (rows !== '' && rows.length + text.length > partCharactersMax) end(row.position - 1)
    rows += rows === '' ? text : `,${text}`
  }
  end(update.position)
  return parts
}

export interface EncodedUpdate {
  readonly stream: StreamName
  readonly position: StreamPosition
  readonly text: string
}

/** Messages that carry the updates, in order; few unless they are large. */
export function updateMessages(from: string, ts: number, updates: readonly EncodedUpdate[]): string[] {
  const messages: string[] = []
  let texts = ''
  const end = () => {
    if (texts !== '') messages.push(`{"from":${JSON.stringify(from)},"ts":${ts},"kind":"updates","updates":[${texts}]}`)
    texts = ''
  }
  for (const { text } of updates) {
    if (texts.length + text.length > 2 * partCharactersMax) end()
    texts += texts === '' ? text : `,${text}`
  }
  end()
  return messages
}

export function positionsMessage(kind: 'beat' | 'restored', from: string, ts: number, at: PositionsText): string {
  return JSON.stringify({ from, ts, kind, positions: at })
}

/** How every message of this sender begins: its own need not be parsed. */
export function messageStart(from: string): string {
  return `{"from":${JSON.stringify(from)},`
}

/** Throws a ValiError or SyntaxError for what is no message; updates of unknown streams are left out. */
export function parseMessage(text: string): Message {
  const head = v.parse(Head, JSON.parse(text))
  if (head.kind !== 'updates') return head
  return { ...head, updates: head.updates.flatMap((update) => parseUpdate(update) ?? []) }
}

/** One entry of a stream's log. */
export function parseLogEntry(text: string): AnyUpdate | undefined {
  return parseUpdate(JSON.parse(text))
}

function parseUpdate(update: unknown): AnyUpdate | undefined {
  const schema = schemas[v.parse(Named, update).stream]
  return schema && (v.parse(schema, update) as AnyUpdate)
}
