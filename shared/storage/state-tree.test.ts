import fc from 'fast-check'
import { expect, test } from 'vitest'
import { decodeDelta, type EntryChange, encodeDelta, leafEntriesMax, type NodeId } from './state-tree.ts'
import { changeTree, diffTrees, loadTree, lookupTree, type NodeSource } from './state-walk.ts'

function memory() {
  const bodies = new Map<NodeId, Uint8Array>()
  const source: NodeSource = async (ids) => {
    for (const id of ids) if (!bodies.has(id)) throw new Error('missing')
    return bodies
  }
  return {
    source,
    async change(root: NodeId | undefined, changes: readonly EntryChange[]) {
      const changed = await changeTree(source, root, changes)
      for (const node of changed.nodes) bodies.set(node.id, node.body)
      return changed.root
    },
  }
}

const nid = fc.maxSafeInteger().map((n) => Math.floor(Math.abs(n) / 4))
// Keys close together and far apart, up to what a nid can be.
const key = fc.oneof(fc.nat(200), fc.nat(5_000), nid)
const changes = fc
  .uniqueArray(fc.tuple(key, fc.option(nid, { nil: undefined, freq: 3 })), {
    selector: ([k]) => k,
    maxLength: 150,
  })
  .map((list) => list.sort((a, b) => a[0] - b[0]) as EntryChange[])

function applied(map: ReadonlyMap<number, number>, list: readonly EntryChange[]): Map<number, number> {
  const next = new Map(map)
  for (const [k, value] of list) {
    if (value === undefined) next.delete(k)
    else next.set(k, value)
  }
  return next
}

test('any sequence of changes equals a plain map; equal content has equal node ids; differences are those of the maps', () =>
  fc.assert(
    fc.asyncProperty(fc.array(changes, { maxLength: 8 }), fc.nat(), async (steps, pick) => {
      const tree = memory()
      const states: { root: NodeId | undefined; map: Map<number, number> }[] = [{ root: undefined, map: new Map() }]
      for (const step of steps) {
        const { root, map } = states[pick % states.length]!
        states.push({ root: await tree.change(root, step), map: applied(map, step) })
      }
      for (const { root, map } of states) {
        const loaded = new Map<number, number>()
        await loadTree(tree.source, root, (key, value) => loaded.set(key, value))
        expect(loaded).toEqual(map)
        const fresh = [...map].sort((a, b) => a[0] - b[0])
        expect(await tree.change(undefined, fresh)).toBe(root)
        const asked = [...map.keys()].slice(0, 5)
        const found = await lookupTree(tree.source, root, [...asked, 3])
        expect(found).toEqual(new Map([...map].filter(([k]) => k === 3 || asked.includes(k))))
      }
      const a = states[0]!
      const b = states.at(-1)!
      const c = states[pick % states.length]!
      for (const [x, y] of [
        [a, b],
        [b, c],
        [c, b],
      ] as const) {
        const expected = new Map<number, unknown>()
        for (const k of new Set([...x.map.keys(), ...y.map.keys()]))
          if (x.map.get(k) !== y.map.get(k)) expected.set(k, [x.map.get(k), y.map.get(k)])
        expect(await diffTrees(tree.source, x.root, y.root)).toEqual(expected)
      }
    }),
    { numRuns: 150 },
  ))

test('a delta survives its coding', () =>
  fc.assert(
    fc.property(changes, (list) => {
      expect(decodeDelta(encodeDelta(list))).toEqual(list)
    }),
  ))

test('one change in a large tree writes a path, not the tree', async () => {
  const tree = memory()
  const root = await tree.change(
    undefined,
    Array.from({ length: 10_000 }, (_, i) => [i * 3 + 1, i * 3 + 2] as const),
  )
  const { nodes } = await changeTree(tree.source, root, [[301, 99]])
  expect(nodes.length).toBeLessThanOrEqual(5)
  for (const node of nodes) expect(node.body.length).toBeLessThan(leafEntriesMax * 10)
})
