/** Bundled aggregations: what `unsigned.m.relations` says of an event's children.
 *  https://spec.matrix.org/v1.19/client-server-api/#aggregations-of-child-events */
import { eventsByNids, type RoomRef } from '../storage/events.ts'
import { type BundleChild, bundleChildren } from '../storage/relations.ts'
import type { ReadSql } from '../storage/sql.ts'
import { countThreads, threadsWrittenIn } from '../storage/threads.ts'
import { clientEventJson, type Viewer } from './client-json.ts'
import type { SeenEvent } from './room-reader.ts'
import type { TimelineEvent } from './timeline-event.ts'

export interface BundleContext {
  readonly sql: ReadSql
  readonly room: RoomRef
  readonly viewer: Viewer
  /** Milliseconds since the epoch. */
  readonly now: number
  /** Whether the bundled events name their room, as the events around them do. */
  readonly roomId: boolean
  /** Children after this position are not the viewer's to see. */
  readonly upTo: number
  readonly ignored: ReadonlySet<string>
  /** The viewer sees every event up to `upTo`: nobody needs to look at them one by one. */
  readonly seesAll: boolean
  /** Those of the events that the viewer may see. */
  readonly seen: (events: readonly TimelineEvent[]) => Promise<readonly SeenEvent[]>
}

interface Bundle {
  edit?: SeenEvent
  references?: string[]
  thread?: { readonly replies: number; readonly latest: SeenEvent; readonly participated: boolean }
}

const none: ReadonlyMap<string, string> = new Map()

/** JSON for `ClientEventOptions.relations`, by event id; events without aggregated children are left out. */
export async function bundledRelations(
  events: readonly TimelineEvent[],
  context: BundleContext,
): Promise<ReadonlyMap<string, string>> {
  return bundle(events, context, true)
}

async function bundle(
  events: readonly TimelineEvent[],
  context: BundleContext,
  threads: boolean,
): Promise<ReadonlyMap<string, string>> {
  const ids: string[] = []
  for (const event of events)
    if (event.state_key === undefined && event.has_children !== false) ids.push(event.event_id)
  if (ids.length === 0) return none
  const { sql, room, upTo, ignored } = context
  const found = await bundleChildren(sql, room, ids, upTo)
  if (found.length === 0) return none

  const children = found
    .filter((child) => !ignored.has(child.sender) && (threads || child.rel_type !== 'm.thread'))
    .sort((a, b) => a.position - b.position)
  const bundles = new Map<string, Bundle>()
  await Promise.all([
    addEdits(bundles, children, context),
    addThreads(bundles, children, events, context),
    addReferences(bundles, children, context),
  ])
  return render(bundles, context)
}

/** https://spec.matrix.org/v1.19/client-server-api/#server-side-aggregation-of-mreference-relationships */
async function addReferences(
  bundles: Map<string, Bundle>,
  children: readonly BundleChild[],
  context: BundleContext,
): Promise<void> {
  let references = children.filter((child) => child.rel_type === 'm.reference')
  if (references.length > 0 && !context.seesAll) {
    const nids = references.map((child) => child.event_nid)
    const seen = await context.seen(await eventsByNids(context.sql, context.room, nids))
    const visible = new Set(seen.map(({ event }) => event.event_nid))
    references = references.filter((child) => visible.has(child.event_nid))
  }
  for (const child of references) {
    const bundle = bundleOf(bundles, child.parent)
    bundle.references ??= []
    bundle.references.push(child.event_id)
  }
}

/** The newest edit of each parent by `origin_server_ts`, then by event id.
 *  https://spec.matrix.org/v1.19/client-server-api/#server-side-aggregation-of-mreplace-relationships */
async function addEdits(
  bundles: Map<string, Bundle>,
  children: readonly BundleChild[],
  context: BundleContext,
): Promise<void> {
  const newest = new Map<string, BundleChild>()
  for (const child of children) {
    if (child.rel_type !== 'm.replace') continue
    const other = newest.get(child.parent)
    if (!other || isNewer(child, other)) newest.set(child.parent, child)
  }
  if (newest.size === 0) return
  const nids = [...newest.values()].map((child) => child.event_nid)
  for (const edit of await context.seen(await eventsByNids(context.sql, context.room, nids))) {
    const parent = edit.event.relates_to
    if (parent !== undefined) bundleOf(bundles, parent).edit = edit
  }
}

function isNewer(a: BundleChild, b: BundleChild): boolean {
  return a.origin_server_ts === b.origin_server_ts ? a.event_id > b.event_id : a.origin_server_ts > b.origin_server_ts
}

/** https://spec.matrix.org/v1.19/client-server-api/#server-side-aggregation-of-mthread-relationships */
async function addThreads(
  bundles: Map<string, Bundle>,
  children: readonly BundleChild[],
  events: readonly TimelineEvent[],
  context: BundleContext,
): Promise<void> {
  const threads = children.filter((child) => child.rel_type === 'm.thread')
  if (threads.length === 0) return
  const { sql, room, viewer, upTo, ignored } = context
  const recount = threads.filter((thread) => ignored.size > 0 || thread.position > upTo).map((thread) => thread.parent)
  const [counted, writtenIn] = await Promise.all([
    recount.length > 0 ? countThreads(sql, room, recount, upTo, [...ignored]) : [],
    threadsWrittenIn(
      sql,
      room,
      threads.map((thread) => thread.parent),
      viewer.user_id,
    ),
  ])
  const latest = new Map<number, { readonly root: string; readonly replies: number }>()
  for (const { root, replies, latest_nid } of counted)
    if (latest_nid !== null) latest.set(latest_nid, { root, replies })
  for (const { parent, event_nid, replies } of threads) {
    if (!recount.includes(parent)) latest.set(event_nid, { root: parent, replies })
  }
  const senders = new Map(events.map((event) => [event.event_id as string, event.sender as string]))
  for (const seen of await context.seen(await eventsByNids(sql, room, [...latest.keys()]))) {
    const thread = latest.get(seen.event.event_nid)
    if (!thread) continue
    const participated = senders.get(thread.root) === viewer.user_id || writtenIn.has(thread.root)
    bundleOf(bundles, thread.root).thread = { replies: thread.replies, latest: seen, participated }
  }
}

function bundleOf(bundles: Map<string, Bundle>, parent: string): Bundle {
  const known = bundles.get(parent)
  if (known) return known
  const made: Bundle = {}
  bundles.set(parent, made)
  return made
}

async function render(
  bundles: ReadonlyMap<string, Bundle>,
  context: BundleContext,
): Promise<ReadonlyMap<string, string>> {
  const latest = [...bundles.values()].flatMap(({ thread }) => (thread ? [thread.latest.event] : []))
  // A reply is no root of a thread; that other servers might say so must not lead further down.
  const inner = latest.length > 0 ? await bundle(latest, context, false) : none
  const json = ({ event, membership }: SeenEvent, relations?: string) =>
    clientEventJson(event, context.viewer, { now: context.now, roomId: context.roomId, membership, relations })
  const rendered = new Map<string, string>()
  for (const [parent, { edit, references, thread }] of bundles) {
    const parts: string[] = []
    if (references) {
      parts.push(`"m.reference":{"chunk":[${references.map((id) => `{"event_id":${JSON.stringify(id)}}`).join(',')}]}`)
    }
    if (edit) parts.push(`"m.replace":${json(edit)}`)
    if (thread) {
      const { event } = thread.latest
      parts.push(
        `"m.thread":{"count":${thread.replies},"current_user_participated":${thread.participated},"latest_event":${json(thread.latest, inner.get(event.event_id))}}`,
      )
    }
    if (parts.length > 0) rendered.set(parent, `{${parts.join(',')}}`)
  }
  return rendered
}
