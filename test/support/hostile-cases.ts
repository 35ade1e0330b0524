/** Cases of hostile federation traffic: what each costs, and what it leaves in the database. */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { expect } from 'vitest'
import type { MainSql } from '../../shared/storage/sql.ts'
import { type Cost, costTable, measured } from './measured.ts'

export interface HostileCases {
  /** Runs one, bounded in time, memory and delay of the event loop, and says what it left. */
  run<Result>(name: string, attack: () => Promise<Result>): Promise<Left<Result>>
  /** All that were run, with what they cost. */
  report(): string
}

export interface Left<Result> {
  readonly result: Result
  /** Rows more or fewer than before, of the tables that changed. */
  readonly rows: Readonly<Record<string, number>>
  /** Whether anything that a client or another server can see is other than before. */
  readonly seenChanged: boolean
}

const bounds = { wallMs: 10_000, grownMiB: 160, delayMs: 1_000 }

interface HostileCost extends Cost {
  readonly delayMs: number
}

export function hostileCases(sql: () => MainSql): HostileCases {
  const costs: Cost[] = []
  const all: HostileCost[] = []
  return {
    async run(name, attack) {
      const [rowsBefore, seenBefore] = [await rowCounts(sql()), await whatIsSeen(sql())]
      const delay = monitorEventLoopDelay({ resolution: 5 })
      delay.enable()
      try {
        const result = await measured(name, costs, attack)
        const [rowsAfter, seenAfter] = [await rowCounts(sql()), await whatIsSeen(sql())]
        const changed = Object.entries(rowsAfter).filter(([table, rows]) => rows !== rowsBefore[table])
        const rows = Object.fromEntries(changed.map(([table, count]) => [table, count - (rowsBefore[table] ?? 0)]))
        return { result, rows, seenChanged: seenAfter !== seenBefore }
      } finally {
        delay.disable()
        const cost = { ...(costs.at(-1) as Cost), delayMs: delay.max / 1e6 }
        all.push(cost)
        expect(cost.wallMs).toBeLessThan(bounds.wallMs)
        expect(cost.grownMiB).toBeLessThan(bounds.grownMiB)
        expect(cost.delayMs).toBeLessThan(bounds.delayMs)
      }
    },
    report() {
      const worst = (of: (cost: HostileCost) => number) => Math.max(0, ...all.map(of))
      return [
        costTable(
          all.map((cost) => ({ ...cost, name: `${cost.delayMs.toFixed(0).padStart(4)} ms delay  ${cost.name}` })),
        ),
        `${all.length} cases; at most ${worst((cost) => cost.wallMs).toFixed(0)} ms, ` +
          `${worst((cost) => cost.grownMiB).toFixed(1)} MiB, ${worst((cost) => cost.delayMs).toFixed(0)} ms of event-loop delay`,
      ].join('\n')
    },
  }
}

async function rowCounts(sql: MainSql): Promise<Record<string, number>> {
  const tables = await sql<{ name: string }[]>`
    select relname as name from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace
      -- Indexes follow by themselves, when they come to it; what is sent is deleted when it has arrived; and of what happened
      -- before, caches may hear late.
      and relname !~ '^(user_directory|event_search|outbound_|invalidations)' order by 1`
  const counts = tables.map(({ name }) => `select '${name}' as name, count(*)::integer as rows from ${name}`)
  const rows = await sql.unsafe<{ name: string; rows: number }[]>(counts.join(' union all '))
  return Object.fromEntries(rows.map(({ name, rows: count }) => [name, count]))
}

/** A fingerprint of rooms' current state, memberships, timelines, and what is known of users. */
async function whatIsSeen(sql: MainSql): Promise<string> {
  const [row] = await sql<{ seen: string }[]>`
    select md5(concat_ws('|',
      (select string_agg(concat_ws(' ', room_nid, type, state_key, event_nid), ',' order by room_nid, type, state_key)
        from current_state),
      (select string_agg(concat_ws(' ', room_nid, user_id, membership), ',' order by room_nid, user_id) from memberships),
      (select string_agg(concat_ws(' ', position, event_id, md5(content)), ',' order by position) from events
        where position is not null),
      (select string_agg(concat_ws(' ', room_nid, forward_extremities, state_root), ',' order by room_nid) from room_heads),
      (select string_agg(concat_ws(' ', user_id, display_name), ',' order by user_id) from profiles)
    )) as seen`
  return row?.seen ?? ''
}
