/** Which push class each user is in, and the classes' rules: in memory, so that a send asks nobody. Only users who changed
 *  their rules are here (about 150 bytes each); everybody else has the defaults. */
import { type CompiledRuleset, compileClass } from '../../../shared/core/push/compile.ts'
import { defaultRules } from '../../../shared/core/push/default-rules.ts'
import { type ClassRule, classRules } from '../../../shared/core/push/push-class.ts'
import { localpartOf, type UserId } from '../../../shared/matrix/ids.ts'
import {
  defaultClass,
  pushClass,
  pushClasses,
  pushClassMembers,
  pushClassOf,
} from '../../../shared/storage/push-rules.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'

/** Changes that are remembered for rooms to catch up with; a room that fell further behind looks at all its members. */
const logMax = 4096

/** Any user's default rules are everybody's, once the owner is taken out. */
const someone = '@someone:localhost' as UserId
export const defaultClassRules: readonly ClassRule[] = classRules(defaultRules(someone), someone)

export class PushClasses {
  readonly #classOfUser = new Map<string, number>()
  readonly #rules = new Map<number, readonly ClassRule[]>([[defaultClass, defaultClassRules]])
  readonly #compiled = new Map<number, CompiledRuleset<number>>()
  #log: string[] = []
  #logStart = 0
  /** Changes of other processes that are being read. */
  readonly #reading = new Set<Promise<void>>()

  static async load(sql: MainSql): Promise<PushClasses> {
    const classes = new PushClasses()
    const [rules, members] = await Promise.all([pushClasses(sql), pushClassMembers(sql)])
    for (const { class_id, rules: rulesOfClass } of rules) classes.#rules.set(class_id, rulesOfClass)
    for (const { user_id, class_id } of members) classes.#classOfUser.set(user_id, class_id)
    return classes
  }

  /** The user's class; that of the defaults for everybody who is not known. */
  of(user_id: string): number {
    return this.#classOfUser.get(user_id) ?? defaultClass
  }

  rules(class_id: number): readonly ClassRule[] {
    const rules = this.#rules.get(class_id)
    if (!rules) throw new Error(`push class ${class_id} was not loaded`)
    return rules
  }

  compiled(class_id: number): CompiledRuleset<number> {
    let compiled = this.#compiled.get(class_id)
    if (!compiled) {
      compiled = compileClass(this.rules(class_id))
      this.#compiled.set(class_id, compiled)
    }
    return compiled
  }

  /** The user's rules changed; called after the change was stored. */
  set(user_id: UserId, class_id: number, rules: readonly ClassRule[]): void {
    if (!this.#rules.has(class_id)) this.#rules.set(class_id, rules)
    if (class_id === defaultClass) this.#classOfUser.delete(user_id)
    else this.#classOfUser.set(user_id, class_id)
    this.#log.push(user_id)
    if (this.#log.length > 2 * logMax) {
      this.#log = this.#log.slice(logMax)
      this.#logStart += logMax
    }
  }

  /** The user's rules changed, perhaps in another process: asks the database. */
  refresh(sql: MainSql, user_id: UserId): Promise<void> {
    const reading = this.#read(sql, user_id)
    this.#reading.add(reading)
    const done = () => this.#reading.delete(reading)
    reading.then(done, done)
    return reading
  }

  async #read(sql: MainSql, user_id: UserId): Promise<void> {
    const class_id = await pushClassOf(sql, user_id)
    if (class_id === this.of(user_id)) return
    const rules = this.#rules.get(class_id) ?? (await pushClass(sql, class_id))
    if (rules) this.set(user_id, class_id, rules)
  }

  /** Resolves when the changes that were heard of are known; undefined while there are none. */
  settled(): Promise<unknown> | undefined {
    return this.#reading.size === 0 ? undefined : Promise.allSettled(this.#reading)
  }

  /** Counts changes; what `changedSince` takes. */
  get version(): number {
    return this.#logStart + this.#log.length
  }

  /** Users whose class changed since; undefined: too long ago to say. */
  changedSince(version: number): readonly string[] | undefined {
    return version < this.#logStart ? undefined : this.#log.slice(version - this.#logStart)
  }
}

/** Lower-cased names that can stand for a user in a body. */
export function namesOf(user_id: UserId, display_name: string | undefined): string[] {
  const localpart = localpartOf(user_id).toLowerCase()
  const display = display_name?.toLowerCase()
  const names = localpart === '' ? [] : [localpart]
  if (display !== undefined && display !== '' && display !== localpart) names.push(display)
  return names
}
