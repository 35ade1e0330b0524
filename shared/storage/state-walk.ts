/** Walks and changes of the persistent tree, level by level: each level is asked for at once, whatever its width. */
import {
  type Branch,
  branching,
  childIndex,
  decodeBranch,
  decodeNode,
  type Entry,
  type EntryChange,
  encodeBranch,
  encodeLeaf,
  isLeaf,
  leafEntriesMax,
  mergeEntries,
  type NewNode,
  type NodeId,
  type TreeNode,
  takeLeaf,
} from './state-tree.ts'

/** Bodies of nodes; throws when one is missing. */
export type NodeSource = (ids: readonly NodeId[]) => Promise<ReadonlyMap<NodeId, Uint8Array>>

interface Place {
  readonly id: NodeId
  readonly depth: number
  /** What the path says of the keys below: key mod 8^depth. */
  readonly low: number
}
const rootPlace = (id: NodeId): Place => ({ id, depth: 0, low: 0 })
const childPlace = (place: Place, index: number, id: NodeId): Place => ({
  id,
  depth: place.depth + 1,
  low: place.low + index * branching ** place.depth,
})

function decode(bodies: ReadonlyMap<NodeId, Uint8Array>, place: Place): TreeNode {
  return decodeNode(bodyAt(bodies, place), place.depth, place.low)
}
function bodyAt(bodies: ReadonlyMap<NodeId, Uint8Array>, place: Place): Uint8Array {
  const body = bodies.get(place.id)
  if (!body) throw new Error('state tree: a node is missing')
  return body
}
function childPlaces(place: Place, branch: Branch): Place[] {
  const places: Place[] = []
  for (let i = 0; i < branching; i++) {
    const id = branch.children[i]
    if (id !== undefined) places.push(childPlace(place, i, id))
  }
  return places
}

type TakeEntry = (key: number, value: number) => void

async function entriesBelow(source: NodeSource, places: readonly Place[]): Promise<Map<number, number>> {
  const found = new Map<number, number>()
  await eachBelow(source, places, (key, value) => found.set(key, value))
  return found
}

async function eachBelow(source: NodeSource, places: readonly Place[], take: TakeEntry): Promise<void> {
  let level = places
  while (level.length > 0) {
    const bodies = await source(level.map((place) => place.id))
    const next: Place[] = []
    for (const place of level) {
      const body = bodyAt(bodies, place)
      if (takeLeaf(body, place.depth, place.low, take)) continue
      for (const child of childPlaces(place, decodeBranch(body))) next.push(child)
    }
    level = next
  }
}

/** Gives out every entry, each key once, in no order. */
export function loadTree(source: NodeSource, root: NodeId | undefined, take: TakeEntry): Promise<void> {
  return eachBelow(source, root === undefined ? [] : [rootPlace(root)], take)
}

/** Values of the keys that the tree holds. */
export async function lookupTree(
  source: NodeSource,
  root: NodeId | undefined,
  keys: readonly number[],
): Promise<Map<number, number>> {
  const found = new Map<number, number>()
  let level: { place: Place; keys: readonly number[] }[] = []
  if (root !== undefined && keys.length > 0) level = [{ place: rootPlace(root), keys }]
  while (level.length > 0) {
    const bodies = await source(level.map(({ place }) => place.id))
    const next: typeof level = []
    for (const { place, keys: wanted } of level) {
      const node = decode(bodies, place)
      if (isLeaf(node)) {
        const values = new Map(node.entries)
        for (const key of wanted) {
          const value = values.get(key)
          if (value !== undefined) found.set(key, value)
        }
        continue
      }
      const byChild: number[][] = Array.from({ length: branching }, () => [])
      for (const key of wanted) byChild[childIndex(key, place.depth)]!.push(key)
      for (let i = 0; i < branching; i++) {
        const id = node.children[i]
        if (id !== undefined && byChild[i]!.length > 0)
          next.push({ place: childPlace(place, i, id), keys: byChild[i]! })
      }
    }
    level = next
  }
  return found
}

export type EntryDifference = readonly [before: number | undefined, after: number | undefined]

/** Keys whose values differ between two trees. */
export async function diffTrees(
  source: NodeSource,
  rootA: NodeId | undefined,
  rootB: NodeId | undefined,
): Promise<Map<number, EntryDifference>> {
  /** Subtrees whose forms differ: compared entry by entry. */
  const onlyA: Place[] = []
  const onlyB: Place[] = []
  let level: [Place, Place][] = []
  if (rootA !== undefined && rootB !== undefined) {
    if (rootA !== rootB) level = [[rootPlace(rootA), rootPlace(rootB)]]
  } else if (rootA !== undefined) onlyA.push(rootPlace(rootA))
  else if (rootB !== undefined) onlyB.push(rootPlace(rootB))

  while (level.length > 0) {
    const bodies = await source(level.flatMap(([a, b]) => [a.id, b.id]))
    const next: typeof level = []
    for (const [a, b] of level) {
      const nodeA = decode(bodies, a)
      const nodeB = decode(bodies, b)
      if (isLeaf(nodeA) || isLeaf(nodeB)) {
        onlyA.push(a)
        onlyB.push(b)
        continue
      }
      for (let i = 0; i < branching; i++) {
        const idA = nodeA.children[i]
        const idB = nodeB.children[i]
        if (idA === idB) continue
        if (idA !== undefined && idB !== undefined) next.push([childPlace(a, i, idA), childPlace(b, i, idB)])
        else if (idA !== undefined) onlyA.push(childPlace(a, i, idA))
        else if (idB !== undefined) onlyB.push(childPlace(b, i, idB))
      }
    }
    level = next
  }
  const [entriesA, entriesB] = await Promise.all([entriesBelow(source, onlyA), entriesBelow(source, onlyB)])
  const differences = new Map<number, EntryDifference>()
  for (const [key, value] of entriesA) {
    const other = entriesB.get(key)
    if (other !== value) differences.set(key, [value, other])
  }
  for (const [key, value] of entriesB) if (!entriesA.has(key)) differences.set(key, [undefined, value])
  return differences
}

/** The tree with `changes` (ascending, each key once), and the nodes that it has and `root` has not. */
export async function changeTree(
  source: NodeSource,
  root: NodeId | undefined,
  changes: readonly EntryChange[],
): Promise<{ root: NodeId | undefined; nodes: NewNode[] }> {
  const nodes = new Map<NodeId, NewNode>()
  const add = (node: NewNode): NodeId => {
    nodes.set(node.id, node)
    return node.id
  }
  /** Entries that all belong at one place; undefined for none. */
  function build(entries: readonly Entry[], depth: number): NodeId | undefined {
    if (entries.length === 0) return undefined
    if (entries.length <= leafEntriesMax) return add(encodeLeaf(entries, depth))
    const parts: Entry[][] = Array.from({ length: branching }, () => [])
    for (const entry of entries) parts[childIndex(entry[0], depth)]!.push(entry)
    const children = parts.map((part) => build(part, depth + 1))
    return add(encodeBranch({ count: entries.length, children }))
  }

  interface Changed {
    readonly id: NodeId | undefined
    readonly count: number
  }
  async function change(place: Place, part: readonly EntryChange[], bodies: Bodies): Promise<Changed> {
    const node = decode(bodies, place)
    if (isLeaf(node)) {
      const entries = mergeEntries(node.entries, part)
      return { id: build(entries, place.depth), count: entries.length }
    }
    const removals = part.filter(([, value]) => value === undefined).length
    if (node.count - removals <= leafEntriesMax) {
      // It may come down to a leaf, whose form asks for all entries.
      const below = await entriesBelow(source, [place])
      const entries = mergeEntries(
        [...below].sort((a, b) => a[0] - b[0]),
        part,
      )
      return { id: build(entries, place.depth), count: entries.length }
    }
    const parts: EntryChange[][] = Array.from({ length: branching }, () => [])
    for (const entry of part) parts[childIndex(entry[0], place.depth)]!.push(entry)
    const children = [...node.children]
    let count = node.count
    for (let i = 0; i < branching; i++) {
      if (parts[i]!.length === 0) continue
      const id = node.children[i]
      if (id === undefined) {
        const entries = mergeEntries([], parts[i]!)
        children[i] = build(entries, place.depth + 1)
        count += entries.length
        continue
      }
      const child = childPlace(place, i, id)
      const before = decode(bodies, child)
      const changed = await change(child, parts[i]!, bodies)
      children[i] = changed.id
      count += changed.count - (isLeaf(before) ? before.entries.length : before.count)
    }
    return { id: add(encodeBranch({ count, children })), count }
  }

  if (root === undefined) {
    const id = build(mergeEntries([], changes), 0)
    return { root: id, nodes: [...nodes.values()] }
  }
  const bodies = await pathsTo(source, root, changes)
  const { id } = await change(rootPlace(root), changes, bodies)
  // A change that changes nothing leads back to nodes that exist.
  for (const known of bodies.keys()) nodes.delete(known)
  return { root: id, nodes: [...nodes.values()] }
}

type Bodies = ReadonlyMap<NodeId, Uint8Array>
/** All nodes on the way to the changed keys. */
async function pathsTo(source: NodeSource, root: NodeId, changes: readonly EntryChange[]): Promise<Bodies> {
  const bodies = new Map<NodeId, Uint8Array>()
  let level: { place: Place; part: readonly EntryChange[] }[] = [{ place: rootPlace(root), part: changes }]
  while (level.length > 0) {
    const found = await source(level.map(({ place }) => place.id))
    const next: typeof level = []
    for (const { place, part } of level) {
      const node = decode(found, place)
      bodies.set(place.id, found.get(place.id)!)
      if (isLeaf(node)) continue
      const parts: EntryChange[][] = Array.from({ length: branching }, () => [])
      for (const entry of part) parts[childIndex(entry[0], place.depth)]!.push(entry)
      for (let i = 0; i < branching; i++) {
        const id = node.children[i]
        if (id !== undefined && parts[i]!.length > 0) next.push({ place: childPlace(place, i, id), part: parts[i]! })
      }
    }
    level = next
  }
  return bodies
}
