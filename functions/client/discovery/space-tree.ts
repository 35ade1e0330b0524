/** The rooms that are reached from a space, here and at other servers, as far as a user may see them. */
import { mayPreview } from '../../../shared/core/room-access.ts'
import type { RoomId, UserId } from '../../../shared/matrix/ids.ts'
import { previewJson, visiblePreviews } from '../../../shared/rooms/previews.ts'
import { byOrder, type ChildLink, childLink } from '../../../shared/rooms/space-walk.ts'
import {
  joinedAmong,
  knownAmong,
  type RoomPreview,
  roomsReached,
  spaceLinks,
} from '../../../shared/storage/room-previews.ts'
import type { ClientDeps } from '../deps.ts'
import { type RemoteSpace, type RemoteSummary, remoteSpace } from './remote-spaces.ts'

export interface SpaceRoom {
  readonly summary: object
  /** In their order. */
  readonly children: readonly ChildLink[]
}

/** Of one tree. What is farther from the root is left out. */
const roomsMax = 5_000
const childrenMax = 1_000
/** Rooms that other servers are asked about, and how far from what is known here. */
const askedMax = 50
const roundsMax = 10
const sideBySide = 8
const askingMs = 20_000

/** By room id; without `root` where the user may not see it. */
export async function spaceTree(
  deps: ClientDeps,
  root: RoomId,
  { user_id, counts }: { readonly user_id: UserId; readonly counts: (child: ChildLink) => boolean },
): Promise<ReadonlyMap<string, SpaceRoom>> {
  const { sql, clock } = deps
  const tree = new Map<string, SpaceRoom>()
  const add = (room_id: string, summary: object, links: readonly (ChildLink | undefined)[]) =>
    tree.set(room_id, {
      summary,
      children: links.flatMap((child) => (child && counts(child) ? [child] : [])).sort(byOrder),
    })

  async function addLocal(rooms: readonly RoomPreview[]): Promise<void> {
    const spaces = rooms.filter((room) => room.room_type === 'm.space')
    const links = new Map<number, (ChildLink | undefined)[]>()
    const found = await spaceLinks(
      sql,
      spaces.map((space) => space.room_nid),
      childrenMax,
    )
    for (const link of found) {
      const of = links.get(link.room_nid) ?? []
      of.push(childLink(link))
      links.set(link.room_nid, of)
    }
    for (const room of rooms) add(room.room_id, previewJson(room), links.get(room.room_nid) ?? [])
  }

  const reached = await roomsReached(sql, root, roomsMax)
  await addLocal([...(await visiblePreviews(sql, reached, user_id)).values()])
  if (!tree.has(root)) return tree

  const looked = new Set<string>(tree.keys())
  const end = clock.now() + askingMs
  let asked = 0
  for (let round = 0; round < roundsMax; round++) {
    const open = new Map<string, readonly string[]>()
    for (const { children } of tree.values()) {
      for (const { link, via } of children) if (!looked.has(link.state_key)) open.set(link.state_key, via)
    }
    if (open.size === 0) break
    for (const id of open.keys()) looked.add(id)
    const ids = [...open.keys()]
    const known = await knownAmong(sql, ids)
    await addLocal(
      [...(await visiblePreviews(sql, [...known], user_id)).values()].filter((room) => !tree.has(room.room_id)),
    )
    const remote = ids.filter((id) => !known.has(id) && !tree.has(id)).slice(0, askedMax - asked)
    if (remote.length === 0) continue
    if (clock.now() > end) break
    asked += remote.length
    const answers: RemoteSpace[] = []
    const waiting = [...remote]
    const asking = async () => {
      for (let id = waiting.pop(); id !== undefined && clock.now() <= end; id = waiting.pop()) {
        const space = await remoteSpace(deps, id, open.get(id) ?? [])
        if (space) answers.push(space)
      }
    }
    await Promise.all(Array.from({ length: sideBySide }, asking))
    // Rooms that are no spaces need not be asked about one by one.
    const leaves = answers.flatMap(({ children }) => children.filter((child) => child.room_type !== 'm.space'))
    const here = await knownAmong(
      sql,
      leaves.map((room) => room.room_id),
    )
    const linked = leaves.filter(({ room_id }) => !here.has(room_id) && !looked.has(room_id))
    const visible = await forUser(deps, user_id, [...answers.map(({ room }) => room), ...linked])
    for (const { room, links } of answers) {
      if (!visible.has(room.room_id)) continue
      add(
        room.room_id,
        room,
        links.map(({ content, ...link }) =>
          childLink({ ...link, content: JSON.stringify(content), room_nid: 0, event_nid: 0 }),
        ),
      )
    }
    for (const room of linked) {
      looked.add(room.room_id)
      if (visible.has(room.room_id) && !tree.has(room.room_id)) add(room.room_id, room, [])
    }
  }
  return tree
}

/** Other servers tell of all that some user of this one may see; which of it is this user's is for this server to say. */
async function forUser(
  { sql }: ClientDeps,
  user_id: UserId,
  rooms: readonly RemoteSummary[],
): Promise<ReadonlySet<string>> {
  const allowed = rooms.flatMap((room) => room.allowed_room_ids ?? [])
  const ids = rooms.map((room) => room.room_id)
  const [joined, invited] = await Promise.all([
    joinedAmong(sql, user_id, [...new Set(allowed)]),
    visiblePreviews(sql, ids, user_id),
  ])
  const visible = rooms.filter(({ room_id, join_rule, world_readable, allowed_room_ids = [] }) =>
    mayPreview({
      membership: invited.get(room_id)?.membership ?? null,
      join_rule: join_rule ?? 'public',
      history_visibility: world_readable ? 'world_readable' : null,
      inAllowedRoom: allowed_room_ids.some((id) => joined.has(id)),
    }),
  )
  return new Set(visible.map((room) => room.room_id))
}
