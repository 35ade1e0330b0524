/** New states from old ones. A change of state writes one small root: its tree's id and the changes since. When those
 *  grow past `deltaMax` they are folded into the tree, which shares with the old one all that is off the changed paths. */
import { fromPgText, type MainSql, pgText } from '../../../shared/storage/sql.ts'
import { createStateReader, type StateKey, type StateRoot, stateMapKey } from '../../../shared/storage/state.ts'
import { type EntryChange, encodeDelta, idToBytes, mergeChanges } from '../../../shared/storage/state-tree.ts'
import { changeTree } from '../../../shared/storage/state-walk.ts'
import type { Nids } from './nids.ts'
import type { StateChange, StateTrees } from './state-types.ts'

/** Folding writes a path a change, a root writes its whole delta: around here the two cost the same. */
const deltaMax = 32

export function createStateTrees({ sql, nids }: { sql: MainSql; nids: Nids }): StateTrees {
  const reader = createStateReader(sql)
  const empty: StateRoot = { node: undefined, delta: [] }
  /** Keys on their way into the table: two rooms that meet a new key at once get one number. */
  const interning = new Map<string, Promise<number>>()

  async function internMissing(keys: readonly StateKey[]): Promise<Map<string, number>> {
    const wanted = await nids.take(keys.length)
    // Not waited for on disk: a later commit's flush takes this with it, and no root refers to it before.
    const rows = await sql<{ type: string; state_key: string; key_nid: number }[]>`
      with x as (
        select * from unnest(${sql.array(wanted, 20)}::bigint[],
          ${sql.array(
            keys.map(([type]) => pgText(type)),
            25,
          )}::text[],
          ${sql.array(
            keys.map(([, state_key]) => pgText(state_key)),
            25,
          )}::text[]) as x(key_nid, type, state_key)
      )
      insert into state_keys as k (key_nid, type, state_key)
      select key_nid, type, state_key from x cross join set_config('synchronous_commit', 'off', true)
      on conflict (type, state_key) do update set key_nid = k.key_nid
      returning k.key_nid, k.type, k.state_key`
    const found = new Map<string, number>()
    for (const row of rows) found.set(stateMapKey(fromPgText(row.type), fromPgText(row.state_key)), row.key_nid)
    reader.remember({ keys: [...found] })
    return found
  }

  async function intern(changes: readonly StateChange[]): Promise<Map<string, number>> {
    const unique = new Map<string, StateKey>()
    for (const { type, state_key } of changes) unique.set(stateMapKey(type, state_key), [type, state_key])
    const found = await reader.keyNids([...unique.values()])
    const fresh: StateKey[] = []
    const waiting: Promise<void>[] = []
    for (const [name, key] of unique) {
      if (found.has(name)) continue
      const pending = interning.get(name)
      if (pending) waiting.push(pending.then((nid) => void found.set(name, nid)))
      else fresh.push(key)
    }
    if (fresh.length > 0) {
      const interned = internMissing(fresh)
      for (const key of fresh) {
        const name = stateMapKey(...key)
        const nid = interned.then((numbers) => numbers.get(name)!)
        interning.set(name, nid)
        const forget = () => interning.delete(name)
        nid.then(forget, forget)
        waiting.push(nid.then((value) => void found.set(name, value)))
      }
    }
    await Promise.all(waiting)
    return found
  }

  return {
    async apply(base_root, room_nid, changes) {
      const numbers = await intern(changes)
      const changed: EntryChange[] = changes.map(({ type, state_key, event_nid }) => [
        numbers.get(stateMapKey(type, state_key))!,
        event_nid,
      ])
      const base = base_root === undefined ? empty : await reader.root(base_root)
      const delta = mergeChanges(base.delta, changed)
      const root_id = await nids.next()
      let root: StateRoot = { node: base.node, delta }
      let nodes: Awaited<ReturnType<typeof changeTree>>['nodes'] = []
      if (delta.length > deltaMax) {
        const folded = await changeTree(reader.nodes, base.node, delta)
        root = { node: folded.root, delta: [] }
        nodes = folded.nodes
      }
      reader.remember({ roots: [[root_id, root]], nodes })
      return {
        root_id,
        writes: {
          nodes: nodes.map(({ id, body }) => ({ node_id: idToBytes(id), body })),
          roots: [
            {
              root_id,
              room_nid,
              node_id: root.node === undefined ? undefined : idToBytes(root.node),
              delta: encodeDelta(root.delta),
            },
          ],
        },
      }
    },
    load: (root_id) => reader.load(root_id),
    lookup: (root_id, keys) => reader.lookup(root_id, keys),
    diff: (rootA, rootB) => reader.diff(rootA, rootB),
  }
}
