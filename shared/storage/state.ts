/** Reads of stored room state. A root (`events.state_root`) is a tree and a few changes on top; see state-tree.ts. Nodes
 *  and key names never change, so they are cached without a thought for invalidation. */
import { LRUCache } from 'lru-cache'
import { entriesUpTo } from '../lru-bound.ts'
import { cacheTally } from '../metrics/tallies.ts'
import { fromPgText, type MainSql, pgText, type ReadSql } from './sql.ts'
import { decodeDelta, type EntryChange, idFromBytes, mergeChanges, type NodeId } from './state-tree.ts'
import { diffTrees, type EntryDifference, loadTree, lookupTree, type NodeSource } from './state-walk.ts'

export interface StateRoot {
  readonly node: NodeId | undefined
  readonly delta: readonly EntryChange[]
}
export type StateKey = readonly [type: string, state_key: string]

/** `type` and `state_key` in one string: the key of state maps here and in state resolution. */
export function stateMapKey(type: string, state_key: string): string {
  return `${type}\0${state_key}`
}
export function parseStateMapKey(key: string): StateKey {
  const end = key.indexOf('\0')
  return [key.slice(0, end), key.slice(end + 1)]
}

export interface StateDifference {
  readonly type: string
  readonly state_key: string
  /** event_nid; undefined: no event has the key. */
  readonly before: number | undefined
  readonly after: number | undefined
}

const limits = {
  nodeCacheBytes: 48 * 1024 * 1024,
  rootsCached: 20_000,
  keysCached: 300_000,
  /** Keys and nodes asked for in one statement. */
  rowsPerQuery: 10_000,
} as const

export interface StateReader {
  root(root_id: number): Promise<StateRoot>
  readonly nodes: NodeSource
  /** The whole state: stateMapKey -> event_nid. */
  load(root_id: number): Promise<Map<string, number>>
  lookup(root_id: number, keys: readonly StateKey[]): Promise<(number | undefined)[]>
  diff(rootA: number, rootB: number): Promise<StateDifference[]>
  /** Numbers of keys that are stored, by stateMapKey; one that was never used in a state is not among them. */
  keyNids(keys: readonly StateKey[]): Promise<Map<string, number>>
  /** Makes known what is being written, so that it can be read before it is stored. */
  remember(written: {
    readonly roots?: readonly (readonly [root_id: number, root: StateRoot])[]
    readonly nodes?: readonly { readonly id: NodeId; readonly body: Buffer }[]
    readonly keys?: readonly (readonly [key: string, key_nid: number])[]
  }): void
  forgetRoot(root_id: number): void
}

export function createStateReader(sql: ReadSql | MainSql): StateReader {
  const bodies = new LRUCache<NodeId, Buffer>({
    maxSize: limits.nodeCacheBytes,
    sizeCalculation: (body) => body.length + 150,
  })
  const tally = cacheTally('state_nodes_bytes')
  tally.size = () => bodies.calculatedSize
  const roots = new LRUCache<number, StateRoot>({ ...entriesUpTo(limits.rootsCached) })
  const nidOfKey = new LRUCache<string, number>({ ...entriesUpTo(limits.keysCached) })
  const keyOfNid = new LRUCache<number, string>({ ...entriesUpTo(limits.keysCached) })

  async function root(root_id: number): Promise<StateRoot> {
    const cached = roots.get(root_id)
    if (cached) return cached
    const [row] = await sql<{ node_id: Buffer | null; delta: Buffer }[]>`
      select node_id, delta from state_roots where root_id = ${root_id}`
    if (!row) throw new Error(`state root ${root_id} is not stored`)
    const found = { node: row.node_id ? idFromBytes(row.node_id) : undefined, delta: decodeDelta(row.delta) }
    roots.set(root_id, found)
    return found
  }

  const nodes: NodeSource = async (ids) => {
    const found = new Map<NodeId, Uint8Array>()
    const missing: NodeId[] = []
    for (const id of ids) {
      const body = bodies.get(id)
      if (body) found.set(id, body)
      else missing.push(id)
    }
    tally.hits += found.size
    tally.misses += missing.length
    for (let i = 0; i < missing.length; i += limits.rowsPerQuery) {
      const part = missing.slice(i, i + limits.rowsPerQuery)
      const list = part.map((id) => Buffer.from(id, 'latin1').toString('hex')).join(',')
      // One value for all: a row a node took the driver longer than the database. A node that is not there has the length -1.
      const [row] = await sql<{ packed: Buffer | null }[]>`
        select string_agg(int4send(coalesce(octet_length(n.body), -1)) || coalesce(n.body, ''), ''::bytea order by x.place) as packed
        from string_to_table(${list}, ',') with ordinality as x(id, place)
        left join lateral (select body from state_nodes where node_id = decode(x.id, 'hex') limit 1) n on true`
      const packed = row?.packed
      if (!packed) continue
      let at = 0
      for (const id of part) {
        const length = packed.readInt32BE(at)
        at += 4
        if (length < 0) continue
        const body = Buffer.from(packed.subarray(at, at + length))
        at += length
        found.set(id, body)
        bodies.set(id, body)
      }
    }
    return found
  }

  function knowKey(key: string, key_nid: number): void {
    nidOfKey.set(key, key_nid)
    keyOfNid.set(key_nid, key)
  }

  async function keyNids(keys: readonly StateKey[]): Promise<Map<string, number>> {
    const found = new Map<string, number>()
    const missing: StateKey[] = []
    for (const key of keys) {
      const name = stateMapKey(...key)
      const nid = nidOfKey.get(name)
      if (nid === undefined) missing.push(key)
      else found.set(name, nid)
    }
    for (let i = 0; i < missing.length; i += limits.rowsPerQuery) {
      const part = missing.slice(i, i + limits.rowsPerQuery)
      const rows = await sql<{ key_nid: number; type: string; state_key: string }[]>`
        select k.key_nid, k.type, k.state_key
        from unnest(${sql.array(
          part.map(([type]) => pgText(type)),
          25,
        )}::text[],
          ${sql.array(
            part.map(([, state_key]) => pgText(state_key)),
            25,
          )}::text[]) as x(type, state_key)
        join state_keys k on k.type = x.type collate "C" and k.state_key = x.state_key collate "C"`
      for (const row of rows) {
        const name = stateMapKey(fromPgText(row.type), fromPgText(row.state_key))
        knowKey(name, row.key_nid)
        found.set(name, row.key_nid)
      }
    }
    return found
  }

  /** stateMapKeys of key_nids, in their order. */
  async function keyNames(nids: readonly number[]): Promise<string[]> {
    // Of so many, the order in which they were used says nothing.
    const names = nids.map(nids.length > 1_000 ? (nid) => keyOfNid.peek(nid) : (nid) => keyOfNid.get(nid))
    const missing = nids.filter((_, i) => names[i] === undefined)
    const fetched = new Map<number, string>()
    for (let i = 0; i < missing.length; i += limits.rowsPerQuery) {
      const rows = await sql<{ key_nid: number; type: string; state_key: string }[]>`
        select key_nid, type, state_key from state_keys
        where key_nid = any(${sql.array(missing.slice(i, i + limits.rowsPerQuery), 20)}::bigint[])`
      for (const row of rows) {
        const name = stateMapKey(fromPgText(row.type), fromPgText(row.state_key))
        knowKey(name, row.key_nid)
        fetched.set(row.key_nid, name)
      }
    }
    return names.map((known, i) => {
      const name = known ?? fetched.get(nids[i]!)
      if (name === undefined) throw new Error(`state key ${nids[i]} is not stored`)
      return name
    })
  }

  /** Keys and values in step. */
  async function loadNids(root_id: number): Promise<{ keys: number[]; values: number[] }> {
    const { node, delta } = await root(root_id)
    const changed = new Set(delta.map(([key]) => key))
    const keys: number[] = []
    const values: number[] = []
    const add = (key: number, value: number) => {
      keys.push(key)
      values.push(value)
    }
    await loadTree(nodes, node, (key, value) => {
      if (!changed.has(key)) add(key, value)
    })
    for (const [key, value] of delta) if (value !== undefined) add(key, value)
    return { keys, values }
  }

  async function lookupNids(root_id: number, keys: readonly number[]): Promise<Map<number, number>> {
    const { node, delta } = await root(root_id)
    const changed = new Map(delta)
    const found = await lookupTree(
      nodes,
      node,
      keys.filter((key) => !changed.has(key)),
    )
    for (const key of keys) {
      const value = changed.get(key)
      if (value !== undefined) found.set(key, value)
    }
    return found
  }

  async function diffNids(rootA: number, rootB: number): Promise<Map<number, EntryDifference>> {
    if (rootA === rootB) return new Map()
    const [a, b] = await Promise.all([root(rootA), root(rootB)])
    const differences = await diffTrees(nodes, a.node, b.node)
    const touched = mergeChanges(a.delta, b.delta).map(([key]) => key)
    // What the trees agree on is the same in both: one look-up answers for both.
    const common = await lookupTree(
      nodes,
      a.node,
      touched.filter((key) => !differences.has(key)),
    )
    const changedA = new Map(a.delta)
    const changedB = new Map(b.delta)
    for (const key of touched) {
      const [treeA, treeB] = differences.get(key) ?? [common.get(key), common.get(key)]
      const before = changedA.has(key) ? changedA.get(key) : treeA
      const after = changedB.has(key) ? changedB.get(key) : treeB
      if (before === after) differences.delete(key)
      else differences.set(key, [before, after])
    }
    return differences
  }

  return {
    root,
    nodes,
    async load(root_id) {
      const { keys, values } = await loadNids(root_id)
      const names = await keyNames(keys)
      const state = new Map<string, number>()
      for (let i = 0; i < names.length; i++) state.set(names[i]!, values[i]!)
      return state
    },
    async lookup(root_id, keys) {
      const nids = await keyNids(keys)
      const found = await lookupNids(root_id, [...new Set(nids.values())])
      return keys.map((key) => {
        const nid = nids.get(stateMapKey(...key))
        return nid === undefined ? undefined : found.get(nid)
      })
    },
    async diff(rootA, rootB) {
      const differences = await diffNids(rootA, rootB)
      const names = await keyNames([...differences.keys()])
      return [...differences.values()].map(([before, after], i) => {
        const [type, state_key] = parseStateMapKey(names[i]!)
        return { type, state_key, before, after }
      })
    },
    keyNids,
    remember(written) {
      for (const [root_id, remembered] of written.roots ?? []) roots.set(root_id, remembered)
      for (const { id, body } of written.nodes ?? []) bodies.set(id, body)
      for (const [key, nid] of written.keys ?? []) knowKey(key, nid)
    },
    forgetRoot: (root_id) => void roots.delete(root_id),
  }
}

/** One cache a handle, made when it is first used. */
const readers = new WeakMap<ReadSql | MainSql, StateReader>()
function readerOf(sql: ReadSql | MainSql): StateReader {
  let reader = readers.get(sql)
  if (!reader) {
    reader = createStateReader(sql)
    readers.set(sql, reader)
  }
  return reader
}

/** event_nids of the keys asked for, in their order. */
export function stateAt(
  sql: ReadSql | MainSql,
  root_id: number,
  keys: readonly StateKey[],
): Promise<(number | undefined)[]> {
  return readerOf(sql).lookup(root_id, keys)
}
/** The whole state: stateMapKey -> event_nid. */
export function stateMapAt(sql: ReadSql | MainSql, root_id: number): Promise<Map<string, number>> {
  return readerOf(sql).load(root_id)
}
/** Where two states differ, in no order; costs by the difference, not by the size. */
export function stateDelta(sql: ReadSql | MainSql, rootA: number, rootB: number): Promise<StateDifference[]> {
  return readerOf(sql).diff(rootA, rootB)
}
