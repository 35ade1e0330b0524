/** A room of many members with a long history of membership changes and forks, through the state trees. */
import { createNids } from '../../functions/main/persist/nids.ts'
import { createStateTrees } from '../../functions/main/persist/state-trees.ts'
import type { StateNodeWrite, StateRootWrite } from '../../functions/main/persist/writes.ts'
import type { TestDatabase } from '../support/database.ts'

export interface StateSize {
  /** Heap and indexes of state_nodes and state_roots. */
  readonly storedBytes: number
  /** JSON of all the state events. */
  readonly jsonBytes: number
  /** The whole states at old events from all over the history, each read once, oldest first, in a process that had read the
   *  state of today; and the last of them once more. */
  readonly loadsMs: readonly number[]
  readonly loadAgainMs: number
  readonly members: number
  readonly expectedMembers: number
}

/** So many states are read. */
const oldEvents = 20

/** A membership event as a server stores it, in the usual size. */
function memberJson(member: number, change: number): string {
  const hash = (n: number) => `$${Buffer.from(`hash of event ${n}`.padEnd(32, 'x')).toString('base64url')}`
  return JSON.stringify({
    auth_events: [hash(1), hash(2), hash(3), hash(member)],
    prev_events: [hash(change)],
    type: 'm.room.member',
    room_id: hash(0).replace('$', '!'),
    sender: `@member${member}:example.org`,
    state_key: `@member${member}:example.org`,
    depth: change,
    content: { membership: 'join', displayname: `Member ${member}`, avatar_url: `mxc://example.org/${hash(member)}` },
    hashes: { sha256: hash(change).slice(1) },
    signatures: { 'example.org': { 'ed25519:a_abcd': `${hash(change).slice(1)}${hash(member).slice(1)}` } },
    origin_server_ts: 1_700_000_000_000 + change,
  })
}

export async function measureStateSize(
  database: TestDatabase,
  { members, changes }: { members: number; changes: number },
): Promise<StateSize> {
  const { sql } = database
  const nids = createNids(sql)
  const trees = createStateTrees({ sql, nids })
  let nodes: StateNodeWrite[] = []
  let roots: StateRootWrite[] = []
  async function store(): Promise<void> {
    const hex = (bytes: Buffer | undefined) => bytes?.toString('hex')
    await sql`insert into state_nodes select decode(n, 'hex'), decode(b, 'hex')
      from json_to_recordset(${JSON.stringify(nodes.map((w) => ({ n: hex(w.node_id), b: hex(w.body) })))}::text::json)
        as x(n text, b text) on conflict do nothing`
    await sql`insert into state_roots select r, 1, decode(n, 'hex'), decode(d, 'hex')
      from json_to_recordset(${JSON.stringify(
        roots.map((w) => ({ r: w.root_id, n: hex(w.node_id), d: hex(w.delta) })),
      )}::text::json) as x(r bigint, n text, d text)`
    nodes = []
    roots = []
  }
  let jsonBytes = 0
  let heads: number[] = []
  const old: number[] = []
  let seed = 42
  const random = (below: number) => {
    seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648
    return Math.floor((seed / 2_147_483_648) * below)
  }
  for (let change = 0; change < changes; change++) {
    const member = change < members ? change : random(members)
    const event_nid = await nids.next()
    jsonBytes += memberJson(member, change).length
    // Now and then two servers go on from the same event.
    if (change % 50 === 0 && heads[0] !== undefined) heads = [heads[0], heads[0]]
    const fork = change % heads.length || 0
    const { root_id, writes } = await trees.apply(heads[fork], 1, [
      { type: 'm.room.member', state_key: `@member${member}:example.org`, event_nid },
    ])
    heads[fork] = root_id
    nodes.push(...writes.nodes)
    roots.push(...writes.roots)
    if (heads.length === 2 && change % 50 === 10) {
      // The fork is merged: what the other branch changed comes to this one.
      const [a, b] = [heads[0]!, heads[1]!]
      const difference = await trees.diff(a, b)
      const merged = await trees.apply(
        a,
        1,
        difference.flatMap(({ type, state_key, before, after }) => {
          const newest = Math.max(before ?? 0, after ?? 0)
          return newest === before ? [] : [{ type, state_key, event_nid: newest }]
        }),
      )
      nodes.push(...merged.writes.nodes)
      roots.push(...merged.writes.roots)
      heads = [merged.root_id]
    }
    if (change >= members && change % Math.ceil((changes - members) / oldEvents) === 0) old.push(heads[0]!)
    if (roots.length >= 1000) await store()
  }
  await store()
  await sql.unsafe('vacuum analyze state_nodes, state_roots')
  const [size] = await sql<{ bytes: number }[]>`
    select pg_total_relation_size('state_nodes') + pg_total_relation_size('state_roots') as bytes`
  // Reading the state of today teaches the names of keys; it shares few nodes with the old one.
  const cold = createStateTrees({ sql, nids })
  const state = await cold.load(heads[0]!)
  const loadsMs: number[] = []
  for (const root of [...old, old.at(-1)!]) {
    const start = performance.now()
    const loaded = await cold.load(root)
    loadsMs.push(performance.now() - start)
    if (loaded.size !== state.size) throw new Error(`the state at an old event has ${loaded.size} entries`)
  }
  const loadAgainMs = loadsMs.pop()!
  return {
    storedBytes: size?.bytes ?? 0,
    jsonBytes,
    loadsMs,
    loadAgainMs,
    members: state.size,
    expectedMembers: Math.min(members, changes),
  }
}
