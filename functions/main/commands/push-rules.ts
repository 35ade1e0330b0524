/** Changes of push rules: read, changed by the core, and written whole, together with the class that the rules put the
 *  user in and with the account data that tells the user's clients. */
import { createHash } from 'node:crypto'
import type { pushRuleCommands } from '../../../shared/commands/push-rules.ts'
import type { MainClient } from '../../../shared/commands/registry.ts'
import {
  withActions,
  withEnabled,
  withoutRule,
  withRoomRulesCopied,
  withRule,
} from '../../../shared/core/push/edit-ruleset.ts'
import { type ClassRule, classRules } from '../../../shared/core/push/push-class.ts'
import type { PushRuleset } from '../../../shared/core/push/ruleset.ts'
import { canonicalJsonLoose } from '../../../shared/matrix/canonical-json.ts'
import type { UserId } from '../../../shared/matrix/ids.ts'
import type { JsonValue } from '../../../shared/matrix/json-value.ts'
import type { Replication } from '../../../shared/replication/replication.ts'
import { defaultClass, rulesetFor } from '../../../shared/storage/push-rules.ts'
import { type MainSql, pgText } from '../../../shared/storage/sql.ts'
import { answered } from '../command-call.ts'
import { createKeyedQueue, type KeyedQueue } from '../keyed-queue.ts'
import { isRefused } from '../persist/commit-connection.ts'
import type { Committer } from '../persist/writes.ts'
import { defaultClassRules, PushClasses } from '../rooms/push-classes.ts'

interface Deps {
  readonly sql: MainSql
  readonly committer: Committer
  readonly queue: KeyedQueue
  readonly classes: PushClasses
}

export interface PushRulesDeps {
  readonly sql: MainSql
  readonly committer: Committer
  readonly replication: Replication
  /** Told when a change that another process made could not be read. */
  readonly onError: (error: unknown) => void
}

/** Loads the classes, follows changes that other processes make, and gives the handlers of the commands. */
export async function createPushRules(deps: PushRulesDeps): Promise<{
  readonly handlers: Pick<MainClient, keyof typeof pushRuleCommands>
  readonly classes: PushClasses
  close(): void
}> {
  const { sql, committer, replication, onError } = deps
  await deleteUnusedClasses(sql)
  const queue = createKeyedQueue()
  let classes: PushClasses | undefined
  // Heard before it is read: what changes meanwhile is read again.
  const heard = new Set<UserId>()
  const close = replication.subscribe('invalidations', (update) => {
    for (const { cache, key } of update.rows) {
      if (cache !== 'push_rules') continue
      if (classes) classes.refresh(sql, key as UserId).catch(onError)
      else heard.add(key as UserId)
    }
  })
  classes = await PushClasses.load(sql)
  for (const user_id of heard) await classes.refresh(sql, user_id)
  return { handlers: pushRuleHandlers({ sql, committer, queue, classes }), classes, close }
}

function pushRuleHandlers(deps: Deps): Pick<MainClient, keyof typeof pushRuleCommands> {
  const { sql, committer, queue, classes } = deps

  /** One change at a time a user: each starts from what the one before it left. */
  function change(user_id: UserId, edit: (ruleset: PushRuleset) => PushRuleset): Promise<Record<string, never>> {
    return queue.run(`push rules of ${user_id}`, async () => {
      const before = await rulesetFor(sql, user_id)
      const after = edit(before)
      if (after !== before) {
        await store(user_id, after).catch((error: unknown) => {
          // A main that starts takes away classes that nobody is in, such as one made a moment ago.
          if (isRefused(error) && error.code === '23503') return store(user_id, after)
          throw error
        })
      }
      return {}
    })
  }

  async function store(user_id: UserId, ruleset: PushRuleset): Promise<void> {
    const rules = classRules(ruleset, user_id)
    const class_id = await classOf(sql, rules)
    const json = JSON.stringify(ruleset)
    const before = classes.of(user_id)
    const copied = await keepOutcomes(sql, { user_id, before, after: class_id, from: 0 })
    await committer.commit({
      account_data: [{ user_id, room_nid: 0, type: 'm.push_rules', content: `{"global":${json}}` }],
      invalidations: [{ cache: 'push_rules', key: user_id }],
      also: (tx) => [
        tx`insert into push_rules (user_id, rules, class_id) values (${user_id}, ${pgText(json)}, ${class_id})
          on conflict (user_id) do update set rules = excluded.rules, class_id = excluded.class_id`,
      ],
      ...answered({}),
    })
    classes.set(user_id, class_id, rules)
    // What was sent meanwhile was still decided by the old class.
    await keepOutcomes(sql, { user_id, before, after: class_id, from: copied })
  }

  return {
    putPushRule: ({ user_id, ...definition }) => change(user_id, (ruleset) => withRule(ruleset, definition)),
    deletePushRule: ({ user_id, ...name }) => change(user_id, (ruleset) => withoutRule(ruleset, name)),
    setPushRuleEnabled: ({ user_id, enabled, ...name }) =>
      change(user_id, (ruleset) => withEnabled(ruleset, name, enabled)),
    setPushRuleActions: ({ user_id, actions, ...name }) =>
      change(user_id, (ruleset) => withActions(ruleset, name, actions)),
    copyRoomPushRules: ({ user_id, ...rooms }) => change(user_id, (ruleset) => withRoomRulesCopied(ruleset, rooms)),
  }
}

/** Classes that nobody is in any more. Should another process give one to a user at this moment, the reference is refused
 *  and that change is made again. */
async function deleteUnusedClasses(sql: MainSql): Promise<void> {
  await sql`
    delete from push_classes c where c.class_id <> ${defaultClass}
      and not exists (select from push_rules r where r.class_id = c.class_id)`
}

/** Rules hold for events to come. Deviations of the class that a user leaves become the user's own, and those of the class
 *  they come to do not, as far as the events are unread; or counts would jump. Looks at positions from `from` on, and
 *  returns where to go on. It writes beside the commits of the streams, since there can be many. */
async function keepOutcomes(
  sql: MainSql,
  change: { readonly user_id: UserId; readonly before: number; readonly after: number; readonly from: number },
): Promise<number> {
  const { user_id, before, after, from } = change
  if (before === after) return from
  const [stream] = await sql<{ position: number }[]>`select position from streams where name = 'events'`
  await sql`
    insert into push_deviations (room_nid, position, user_id, class_id, push)
    select d.room_nid, d.position, ${user_id}, 0,
      coalesce(max(d.push) filter (where d.class_id = ${before}), max(e.push))
    from memberships m
    cross join lateral (
      select coalesce(max(c.event_position), 0) as read_to from receipts c
      where c.user_id = m.user_id and c.room_nid = m.room_nid and c.thread_id = ''
    ) r
    join push_deviations d on d.room_nid = m.room_nid and d.position > greatest(r.read_to, ${from})
      and d.user_id = '' and d.class_id in (${before}, ${after})
    join events e on e.room_nid = d.room_nid and e.position = d.position
    where m.user_id = ${user_id} and m.membership = 'join'
    group by d.room_nid, d.position
    on conflict do nothing`
  return stream?.position ?? from
}

const defaultClassText = textOf(defaultClassRules)

/** The class with these rules, made if it is the first of its kind. */
async function classOf(sql: MainSql, rules: readonly ClassRule[]): Promise<number> {
  const text = textOf(rules)
  if (text === defaultClassText) return defaultClass
  const hash = createHash('sha256').update(text).digest()
  const [row] = await sql<{ class_id: number }[]>`
    insert into push_classes (ruleset, ruleset_hash) values (${pgText(text)}, ${hash})
    on conflict (ruleset_hash) do update set ruleset_hash = excluded.ruleset_hash
    returning class_id`
  if (!row) throw new Error('a push class was neither found nor made')
  return row.class_id
}

function textOf(rules: readonly ClassRule[]): string {
  return canonicalJsonLoose(rules as unknown as JsonValue)
}
