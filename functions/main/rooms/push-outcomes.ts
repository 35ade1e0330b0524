/** Whom an event of a room notifies: the default ruleset's outcome, and who gets another. Rules are evaluated once a class
 *  of users with equal rulesets, and apart from that only for users whom the event names, so the work does not grow with
 *  the room. https://spec.matrix.org/v1.19/client-server-api/#push-rules */
import { type CompiledRuleset, compileClass, evaluate, type OwnerPlace } from '../../../shared/core/push/compile.ts'
import { EventFacts, type PushContext, type PushEvent } from '../../../shared/core/push/event-facts.ts'
import type { ClassRule } from '../../../shared/core/push/push-class.ts'
import type { RoomId, UserId } from '../../../shared/matrix/ids.ts'
import { defaultClass } from '../../../shared/storage/push-rules.ts'
import type { PushDeviation } from '../../../shared/streams/events.ts'
import { NameIndex } from './name-index.ts'
import { namesOf, type PushClasses } from './push-classes.ts'

/** What events.push and push_deviations get. Bits: 1 notify, 2 highlight. */
export interface PushOutcome {
  readonly push: number
  readonly deviations: readonly PushDeviation[]
}

export interface RoomPushOptions {
  readonly room_id: RoomId
  readonly classes: PushClasses
  /** Joined users of this server. */
  readonly members: Iterable<{ readonly user_id: UserId; readonly display_name: string | undefined }>
  readonly isLocal: (user_id: string) => boolean
  /** Local users whom nothing of this sender notifies. */
  readonly ignoring?: (sender: string) => Iterable<string>
}

/** Classes whose rules come to the same in this room. */
interface Group {
  readonly class_ids: number[]
  readonly ruleset: CompiledRuleset<number>
}

const none: readonly PushDeviation[] = []

/** The room's joined local users as push rules see them. The owner tells it of every join, leave and new display name. */
export class RoomPush {
  readonly #room_id: RoomId
  readonly #classes: PushClasses
  readonly #isLocal: (user_id: string) => boolean
  readonly #ignoring: (sender: string) => Iterable<string>
  readonly #displayNames = new Map<string, string | undefined>()
  /** Members whose class is not the default. */
  readonly #classOf = new Map<string, number>()
  readonly #membersOfClass = new Map<number, number>()
  #classesVersion: number
  #groups: readonly Group[] | undefined
  #groupOf = new Map<number, Group>()
  #places: readonly OwnerPlace[] = []
  /** Made when the first body is looked at. */
  #names: NameIndex | undefined

  constructor(options: RoomPushOptions) {
    this.#room_id = options.room_id
    this.#classes = options.classes
    this.#isLocal = options.isLocal
    this.#ignoring = options.ignoring ?? (() => [])
    this.#classesVersion = options.classes.version
    for (const { user_id, display_name } of options.members) this.memberJoined(user_id, display_name)
  }

  /** A local user joined, or joined again with another display name. */
  memberJoined(user_id: UserId, display_name: string | undefined): void {
    if (this.#displayNames.has(user_id)) {
      if (this.#displayNames.get(user_id) === display_name) return
      this.#unname(user_id)
    } else {
      this.#classify(user_id, this.#classes.of(user_id))
    }
    this.#displayNames.set(user_id, display_name)
    if (this.#names) for (const name of namesOf(user_id, display_name)) this.#names.add(user_id, name)
  }

  /** A local user is no longer joined. */
  memberLeft(user_id: UserId): void {
    if (!this.#displayNames.has(user_id)) return
    this.#unname(user_id)
    this.#displayNames.delete(user_id)
    this.#classify(user_id, defaultClass)
  }

  /** The outcome for all who are joined when the event is sent; nobody is notified of an event of their own. */
  outcomes(event: PushEvent, context: PushContext): PushOutcome {
    this.#catchUp()
    const groups = this.#groups ?? this.#regroup()
    const facts = new EventFacts(event, context)
    const base = groups[0] ? (evaluate(groups[0].ruleset, facts) ?? 0) : 0
    let deviations: PushDeviation[] | undefined
    let others: Map<Group, number> | undefined
    for (let i = 1; i < groups.length; i++) {
      const group = groups[i] as Group
      const push = evaluate(group.ruleset, facts) ?? 0
      others ??= new Map()
      others.set(group, push)
      if (push === base) continue
      deviations ??= []
      for (const class_id of group.class_ids) deviations.push({ user_id: '', class_id, push })
    }
    for (const user_id of this.#named(facts)) {
      if (user_id === event.sender) continue
      const isMember = this.#displayNames.has(user_id)
      if (!isMember && !this.#isInvited(user_id, event)) continue
      const class_id = isMember ? (this.#classOf.get(user_id) ?? defaultClass) : this.#classes.of(user_id)
      const group = this.#groupOf.get(class_id)
      const user = { user_id, display_name: this.#displayNames.get(user_id) }
      const push = evaluate(group?.ruleset ?? this.#classes.compiled(class_id), facts, user) ?? 0
      if (push === ((group && others?.get(group)) ?? base)) continue
      deviations ??= []
      deviations.push({ user_id, class_id: defaultClass, push })
    }
    for (const user_id of this.#ignoring(event.sender)) {
      if (!this.#displayNames.has(user_id) && !this.#isInvited(user_id, event)) continue
      deviations = deviations?.filter((deviation) => deviation.user_id !== user_id) ?? []
      deviations.push({ user_id, class_id: defaultClass, push: 0 })
    }
    return { push: base, deviations: deviations ?? none }
  }

  /** Users for whom a condition on the owner can hold. */
  #named(facts: EventFacts): Iterable<string> {
    let found: Set<string> | undefined
    for (const place of this.#places) {
      if (place.in === 'body') {
        if (facts.body === undefined) continue
        found ??= new Set()
        this.#nameIndex().find(facts.body, found)
        continue
      }
      const value = facts.value(place.property)
      if (value === undefined) continue
      found ??= new Set()
      if (typeof value === 'string') found.add(value)
      else if (Array.isArray(value)) for (const item of value) if (typeof item === 'string') found.add(item)
    }
    return found ?? []
  }

  #isInvited(user_id: string, event: PushEvent): boolean {
    return (
      event.type === 'm.room.member' &&
      event.state_key === user_id &&
      event.content.membership === 'invite' &&
      this.#isLocal(user_id)
    )
  }

  #nameIndex(): NameIndex {
    if (!this.#names) {
      this.#names = new NameIndex()
      for (const [user_id, display_name] of this.#displayNames) {
        for (const name of namesOf(user_id as UserId, display_name)) this.#names.add(user_id, name)
      }
    }
    return this.#names
  }

  #unname(user_id: UserId): void {
    if (!this.#names) return
    for (const name of namesOf(user_id, this.#displayNames.get(user_id))) this.#names.remove(user_id, name)
  }

  #classify(user_id: string, class_id: number): void {
    const before = this.#classOf.get(user_id) ?? defaultClass
    if (before === class_id) return
    if (before !== defaultClass) {
      const left = (this.#membersOfClass.get(before) ?? 1) - 1
      if (left > 0) this.#membersOfClass.set(before, left)
      else {
        this.#membersOfClass.delete(before)
        this.#groups = undefined
      }
    }
    if (class_id === defaultClass) {
      this.#classOf.delete(user_id)
      return
    }
    this.#classOf.set(user_id, class_id)
    const count = this.#membersOfClass.get(class_id) ?? 0
    this.#membersOfClass.set(class_id, count + 1)
    if (count === 0) this.#groups = undefined
  }

  #catchUp(): void {
    const { version } = this.#classes
    if (version === this.#classesVersion) return
    const changed = this.#classes.changedSince(this.#classesVersion) ?? this.#displayNames.keys()
    for (const user_id of changed) {
      if (this.#displayNames.has(user_id)) this.#classify(user_id, this.#classes.of(user_id))
    }
    this.#classesVersion = version
  }

  /** The default class's group comes first, whether or not anybody is in it: it gives events.push. */
  #regroup(): readonly Group[] {
    const groups = new Map<string, Group>()
    this.#groupOf = new Map()
    for (const class_id of [defaultClass, ...this.#membersOfClass.keys()]) {
      const rules = rulesInRoom(this.#classes.rules(class_id), this.#room_id)
      const key = JSON.stringify(rules)
      let group = groups.get(key)
      if (!group) {
        group = { class_ids: [], ruleset: compileClass(rules) }
        groups.set(key, group)
      }
      group.class_ids.push(class_id)
      this.#groupOf.set(class_id, group)
    }
    this.#groups = [...groups.values()]
    const places = this.#groups.flatMap((group) => group.ruleset.ownerPlaces)
    const distinct = new Map(places.map((place) => [place.in === 'body' ? '' : place.property.path, place]))
    this.#places = [...distinct.values()]
    return this.#groups
  }
}

/** What is left of a class's rules in one room: rules for other rooms are out, so that users who mute different rooms
 *  are still alike in this one. */
export function rulesInRoom(rules: readonly ClassRule[], room_id: RoomId): readonly ClassRule[] {
  const left: ClassRule[] = []
  for (const rule of rules) {
    const isForOtherRoom = rule.conditions.some(
      ({ kind, key, value, pattern }) =>
        key === 'room_id' &&
        ((kind === 'event_property_is' && value !== room_id) ||
          (kind === 'event_match' &&
            typeof pattern === 'string' &&
            !/[*?]/.test(pattern) &&
            pattern.toLowerCase() !== room_id.toLowerCase())),
    )
    if (isForOtherRoom) continue
    const conditions = rule.conditions.filter(
      ({ kind, key, value }) => !(kind === 'event_property_is' && key === 'room_id' && value === room_id),
    )
    left.push(conditions.length === rule.conditions.length ? rule : { ...rule, conditions })
    if (conditions.length === 0) break
  }
  while (left[left.length - 1]?.push === 0) left.pop()
  return left
}
