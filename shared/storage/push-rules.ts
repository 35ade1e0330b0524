/** Push rules as they are stored. Users who never changed a rule have no row: they have the defaults, class 0. */
import * as v from 'valibot'
import { defaultRules } from '../core/push/default-rules.ts'
import { reconciled } from '../core/push/edit-ruleset.ts'
import { type ClassRule, ClassRules } from '../core/push/push-class.ts'
import { PushRuleset } from '../core/push/ruleset.ts'
import type { UserId } from '../matrix/ids.ts'
import { fromPgText, type ReadSql } from './sql.ts'

/** The class of everybody without rules of their own. */
export const defaultClass = 0

/** What clients see as `m.push_rules`. */
export async function pushRulesFor(sql: ReadSql, user_id: UserId): Promise<{ global: PushRuleset }> {
  return { global: await rulesetFor(sql, user_id) }
}

/** The user's whole ruleset, server-default rules included. */
export async function rulesetFor(sql: ReadSql, user_id: UserId): Promise<PushRuleset> {
  const [row] = await sql<{ rules: string }[]>`select rules from push_rules where user_id = ${user_id}`
  return row ? rulesetOf(row.rules, user_id) : defaultRules(user_id)
}

/** The same for many users, in one query. */
export async function rulesetsFor(sql: ReadSql, user_ids: readonly UserId[]): Promise<Map<UserId, PushRuleset>> {
  const rulesets = new Map<UserId, PushRuleset>(user_ids.map((user_id) => [user_id, defaultRules(user_id)]))
  if (user_ids.length === 0) return rulesets
  const rows = await sql<{ user_id: UserId; rules: string }[]>`
    select user_id, rules from push_rules where user_id in ${sql(user_ids)}`
  for (const row of rows) rulesets.set(row.user_id, rulesetOf(row.rules, row.user_id))
  return rulesets
}

/** Content of the account data event `m.push_rules`, as JSON text. */
export async function pushRulesContent(sql: ReadSql, user_id: UserId): Promise<string> {
  return JSON.stringify(await pushRulesFor(sql, user_id))
}

/** The class whose push deviations hold for the user. */
export async function pushClassOf(sql: ReadSql, user_id: UserId): Promise<number> {
  const [row] = await sql<{ class_id: number }[]>`select class_id from push_rules where user_id = ${user_id}`
  return row?.class_id ?? defaultClass
}

/** Every user that has a class of their own. */
export async function pushClassMembers(sql: ReadSql): Promise<{ user_id: UserId; class_id: number }[]> {
  return await sql<{ user_id: UserId; class_id: number }[]>`
    select user_id, class_id from push_rules where class_id <> ${defaultClass}`
}

export async function pushClasses(sql: ReadSql): Promise<{ class_id: number; rules: ClassRule[] }[]> {
  const rows = await sql<{ class_id: number; ruleset: string }[]>`
    select class_id, ruleset from push_classes where class_id <> ${defaultClass}`
  return rows.map((row) => ({ class_id: row.class_id, rules: classRulesOf(row.ruleset) }))
}

export async function pushClass(sql: ReadSql, class_id: number): Promise<ClassRule[] | undefined> {
  const [row] = await sql<{ ruleset: string }[]>`select ruleset from push_classes where class_id = ${class_id}`
  return row && classRulesOf(row.ruleset)
}

function rulesetOf(rules: string, user_id: UserId): PushRuleset {
  return reconciled(v.parse(PushRuleset, JSON.parse(fromPgText(rules))), user_id)
}

function classRulesOf(ruleset: string): ClassRule[] {
  return v.parse(ClassRules, JSON.parse(fromPgText(ruleset)))
}
