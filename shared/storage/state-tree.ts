/** The persistent tree of room state, pure: a trie over the key's number, eight ways a level from its low end, cut to a
 *  leaf where at most `leafEntriesMax` entries are left. Its form depends on nothing but the entries, so equal states
 *  have equal nodes and two states are compared by walking where node ids differ. */
import { createHash } from 'node:crypto'

/** First 16 bytes of SHA-256 of the body, as a string of 16 Latin-1 characters. */
export type NodeId = string
/** key_nid and event_nid, both below 2^52. Lists of entries are in ascending order of keys. */
export type Entry = readonly [key: number, value: number]
/** undefined: the key is taken away. */
export type EntryChange = readonly [key: number, value: number | undefined]

export interface Leaf {
  readonly entries: readonly Entry[]
}
export interface Branch {
  /** Entries below. */
  readonly count: number
  readonly children: readonly (NodeId | undefined)[]
}
export type TreeNode = Leaf | Branch
export interface NewNode {
  readonly id: NodeId
  readonly body: Buffer
}

export const leafEntriesMax = 32
export const branching = 8

export function isLeaf(node: TreeNode): node is Leaf {
  return 'entries' in node
}
/** Which child of a branch at `depth` (the tree's root is at 0) holds the key. */
export function childIndex(key: number, depth: number): number {
  return Math.floor(key / branching ** depth) % branching
}
export function idToBytes(id: NodeId): Buffer {
  return Buffer.from(id, 'latin1')
}
export function idFromBytes(bytes: Uint8Array): NodeId {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
}

/** Little-endian base 128, for non-negative integers up to 2^53. */
function pushVarint(bytes: number[], value: number): void {
  let rest = value
  while (rest >= 128) {
    bytes.push((rest % 128) + 128)
    rest = Math.floor(rest / 128)
  }
  bytes.push(rest)
}
class ByteReader {
  readonly bytes: Uint8Array
  at: number
  constructor(bytes: Uint8Array, at: number) {
    this.bytes = bytes
    this.at = at
  }
  varint(): number {
    let value = 0
    for (let scale = 1; ; scale *= 128) {
      const byte = this.bytes[this.at++]
      if (byte === undefined) throw new RangeError('state tree: truncated')
      value += (byte & 127) * scale
      if (byte < 128) return value
    }
  }
}
/** Signed to unsigned. An event is often numbered soon after its key, so their difference is short. */
function zigzag(value: number): number {
  return value < 0 ? -2 * value - 1 : 2 * value
}
function unzigzag(value: number): number {
  return value % 2 === 0 ? value / 2 : -(value + 1) / 2
}

const leafTag = 0
const branchTag = 1

export function encodeLeaf(entries: readonly Entry[], depth: number): NewNode {
  const bytes = [leafTag, entries.length]
  const scale = branching ** depth
  let previous = 0
  for (const [key, value] of entries) {
    // All keys of a leaf agree in the digits above it.
    const high = Math.floor(key / scale)
    pushVarint(bytes, high - previous)
    pushVarint(bytes, zigzag(value - key))
    previous = high
  }
  return named(Buffer.from(bytes))
}
export function encodeBranch(branch: Branch): NewNode {
  const bytes = [branchTag]
  pushVarint(bytes, branch.count)
  let bitmap = 0
  for (let i = 0; i < branching; i++) if (branch.children[i] !== undefined) bitmap |= 1 << i
  bytes.push(bitmap)
  const ids = branch.children.filter((id) => id !== undefined).map(idToBytes)
  return named(Buffer.concat([Buffer.from(bytes), ...ids]))
}
function named(body: Buffer): NewNode {
  return { id: createHash('sha256').update(body).digest().toString('latin1', 0, 16), body }
}
/** `low` is what the path to the node says of its keys: key mod 8^depth. */
export function decodeNode(body: Uint8Array, depth: number, low: number): TreeNode {
  const entries: Entry[] = []
  if (takeLeaf(body, depth, low, (key, value) => entries.push([key, value]))) return { entries }
  return decodeBranch(body)
}

export function decodeBranch(body: Uint8Array): Branch {
  const reader = new ByteReader(body, 1)
  if (body[0] !== branchTag) throw new RangeError('state tree: unknown kind of node')
  const count = reader.varint()
  const bitmap = body[reader.at++] ?? 0
  const children: (NodeId | undefined)[] = []
  for (let i = 0; i < branching; i++) {
    if (!(bitmap & (1 << i))) children.push(undefined)
    else {
      children.push(idFromBytes(body.subarray(reader.at, reader.at + 16)))
      reader.at += 16
    }
  }
  return { count, children }
}

/** Gives out the entries of a leaf; false where the node is none. */
export function takeLeaf(
  body: Uint8Array,
  depth: number,
  low: number,
  take: (key: number, value: number) => void,
): boolean {
  if (body[0] !== leafTag) return false
  const reader = new ByteReader(body, 1)
  const count = reader.varint()
  const scale = branching ** depth
  let high = 0
  for (let i = 0; i < count; i++) {
    high += reader.varint()
    const key = high * scale + low
    take(key, key + unzigzag(reader.varint()))
  }
  return true
}

/** The changes that a root has on top of its tree, in ascending order of keys. */
export function encodeDelta(changes: readonly EntryChange[]): Buffer {
  const bytes: number[] = []
  let previous = 0
  for (const [key, value] of changes) {
    pushVarint(bytes, key - previous)
    pushVarint(bytes, value === undefined ? 0 : zigzag(value - key) + 1)
    previous = key
  }
  return Buffer.from(bytes)
}
export function decodeDelta(bytes: Uint8Array): EntryChange[] {
  const reader = new ByteReader(bytes, 0)
  const changes: EntryChange[] = []
  let key = 0
  while (reader.at < bytes.length) {
    key += reader.varint()
    const coded = reader.varint()
    changes.push([key, coded === 0 ? undefined : key + unzigzag(coded - 1)])
  }
  return changes
}

/** `changes` on top of `entries`; both ascending. */
export function mergeEntries(entries: readonly Entry[], changes: readonly EntryChange[]): Entry[] {
  const merged: Entry[] = []
  let i = 0
  for (const [key, value] of changes) {
    while (i < entries.length && entries[i]![0] < key) merged.push(entries[i++]!)
    if (i < entries.length && entries[i]![0] === key) i++
    if (value !== undefined) merged.push([key, value])
  }
  while (i < entries.length) merged.push(entries[i++]!)
  return merged
}
/** `later` on top of `earlier`; a removal stays, as it may hide an entry of the tree. */
export function mergeChanges(earlier: readonly EntryChange[], later: readonly EntryChange[]): EntryChange[] {
  const byKey = new Map<number, number | undefined>(earlier)
  for (const [key, value] of later) byKey.set(key, value)
  return [...byKey].sort((a, b) => a[0] - b[0])
}
