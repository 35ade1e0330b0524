/** The way through a tree of spaces. https://spec.matrix.org/v1.19/client-server-api/#querying-rooms-within-a-space */
import * as v from 'valibot'
import type { SpaceLink } from '../storage/room-previews.ts'
import { strippedStateJson } from '../timeline/client-json.ts'

/** A valid m.space.child event. */
export interface ChildLink {
  readonly link: SpaceLink
  readonly suggested: boolean
  /** Servers that may know the child. */
  readonly via: readonly string[]
  /** Undefined: none that counts. */
  readonly order: string | undefined
}

const ChildContent = v.object({ via: v.pipe(v.array(v.string()), v.minLength(1)) })

/** Undefined where it says that there is no such child (any more). */
export function childLink(link: SpaceLink): ChildLink | undefined {
  const content: unknown = JSON.parse(link.content)
  if (!v.is(ChildContent, content)) return undefined
  const { suggested, order } = content as { suggested?: unknown; order?: unknown }
  const counts = typeof order === 'string' && /^[\x20-\x7e]{1,50}$/.test(order)
  return { link, via: content.via, suggested: suggested === true, order: counts ? order : undefined }
}

/** https://spec.matrix.org/v1.19/client-server-api/#ordering-of-children-within-a-space */
export function byOrder(a: ChildLink, b: ChildLink): number {
  if (a.order !== b.order) {
    if (a.order === undefined) return 1
    if (b.order === undefined) return -1
    return a.order < b.order ? -1 : 1
  }
  if (a.link.origin_server_ts !== b.link.origin_server_ts) return a.link.origin_server_ts - b.link.origin_server_ts
  return a.link.state_key < b.link.state_key ? -1 : 1
}

/** The event as it stands among the children of a space. */
export function childLinkJson(link: SpaceLink): string {
  const event = strippedStateJson({ ...link, type: 'm.space.child' })
  return `${event.slice(0, -1)},"origin_server_ts":${link.origin_server_ts}}`
}

/** The rooms below and with `root`, depth first, each once; a room that may not be seen hides what is below it. */
export function walkSpace(
  root: string,
  maxDepth: number,
  rooms: { readonly visible: (room: string) => boolean; readonly childrenOf: (room: string) => readonly string[] },
): string[] {
  const order: string[] = []
  const seen = new Set<string>()
  /** The next room is the last. */
  const waiting = [{ room: root, depth: 0 }]
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    const { room, depth } = next
    if (seen.has(room) || !rooms.visible(room)) continue
    seen.add(room)
    order.push(room)
    if (depth === maxDepth) continue
    for (const child of rooms.childrenOf(room).toReversed()) waiting.push({ room: child, depth: depth + 1 })
  }
  return order
}
