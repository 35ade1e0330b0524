/** Which state a room config asks for: what was asked, put into one form, matched and combined. Both ways of asking are
 *  taken: pairs, as clients send them today, and the objects of the accepted proposal.
 *  https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/4186-simplified-sliding-sync.md#requiredstaterequest */

import { LRUCache } from 'lru-cache'

/** Matches state events of this type and this key; what is absent matches everything. */
export interface StateSelector {
  readonly type?: string | undefined
  readonly state_key?: string | undefined
}

/** Events that an `include` matches and no `exclude` does. */
export interface StateAlternative {
  readonly include: readonly StateSelector[]
  readonly exclude: readonly StateSelector[]
  /** Members are loaded lazily: what matches all types does not match them. */
  readonly lazy: boolean
}

export interface RequiredState {
  /** The same for all that ask for the same; what stores keep. */
  readonly text: string
  readonly alternatives: readonly StateAlternative[]
  readonly lazyMembers: boolean
  /** Every member event of a room matches. */
  readonly allMembers: boolean
}

const memberType = 'm.room.member'

/** In characters. Clients ask for the same again and again, and all of one kind for the same. */
const knownPairsMax = 4 * 1024 ** 2
const knownPairs = new LRUCache<string, RequiredState>({ maxSize: knownPairsMax })

/** From `[["m.room.name",""],["m.room.member","$LAZY"],["*","*"]]`. Beside `["*","*"]` the other pairs narrow their types
 *  down to themselves. */
export function requiredFromPairs(pairs: readonly (readonly [string, string])[], me: string): RequiredState {
  const asked = JSON.stringify(pairs)
  const name = asked.includes('"$ME"') ? `${me} ${asked}` : asked
  const known = knownPairs.get(name)
  if (known) return known
  const made = readPairs(pairs, me)
  // What is made of them is about as large, three times.
  knownPairs.set(name, made, { size: 4 * name.length })
  return made
}

function readPairs(pairs: readonly (readonly [string, string])[], me: string): RequiredState {
  const include: StateSelector[] = []
  const narrowed = new Set<string>()
  let everything = false
  let lazy = false
  for (const [type, key] of pairs) {
    if (type === '*' && key === '*') {
      everything = true
      continue
    }
    if (type !== '*') narrowed.add(type)
    if (type === memberType && key === '$LAZY') {
      lazy = true
      continue
    }
    include.push({
      ...(type === '*' ? {} : { type }),
      ...(key === '*' ? {} : { state_key: key === '$ME' ? me : key }),
    })
  }
  const named = { include, exclude: [], lazy }
  if (!everything) return required([named])
  const rest = { include: [{}], exclude: [...narrowed].map((type) => ({ type })), lazy }
  return required(include.length > 0 ? [rest, named] : [rest])
}

/** From `{"include":[{}],"exclude":[{"type":"m.room.create"}],"lazy_members":true}`. */
export function requiredFromObject(
  request: {
    readonly include?: readonly StateSelector[] | undefined
    readonly exclude?: readonly StateSelector[] | undefined
    readonly lazy_members?: boolean | undefined
  },
  me: string,
): RequiredState {
  const own = ({ type, state_key }: StateSelector): StateSelector => ({
    ...(type === undefined ? {} : { type }),
    ...(state_key === undefined ? {} : { state_key: state_key === '$ME' ? me : state_key }),
  })
  const { include = [], exclude = [], lazy_members = false } = request
  return required([{ include: include.map(own), exclude: exclude.map(own), lazy: lazy_members }])
}

/** Whatever one of them asks for. */
export function combinedRequired(all: readonly RequiredState[]): RequiredState {
  const [first, ...others] = all
  if (!first) return required([])
  if (others.every(({ text }) => text === first.text)) return first
  return required(all.flatMap(({ alternatives }) => alternatives))
}

/** Puts alternatives, also such as come from a store, into the one form. */
export function required(alternatives: readonly StateAlternative[]): RequiredState {
  const byText = new Map<string, StateAlternative>()
  for (const { include, exclude, lazy } of alternatives) {
    const sorted = { include: sortedSelectors(include), exclude: sortedSelectors(exclude), lazy }
    if (sorted.include.length > 0 || lazy) byText.set(JSON.stringify(sorted), sorted)
  }
  const texts = [...byText.keys()].sort()
  const kept = texts.flatMap((text) => byText.get(text) ?? [])
  const allMembers = kept.some(takesAllMembers)
  return {
    text: `[${texts.join(',')}]`,
    alternatives: kept,
    lazyMembers: !allMembers && kept.some(({ lazy }) => lazy),
    allMembers,
  }
}

function sortedSelectors(selectors: readonly StateSelector[]): StateSelector[] {
  const byText = new Map(selectors.map((selector) => [JSON.stringify([selector.type, selector.state_key]), selector]))
  return [...byText.keys()].sort().flatMap((text) => byText.get(text) ?? [])
}

function takesAllMembers({ include, exclude, lazy }: StateAlternative): boolean {
  const all = ({ type, state_key }: StateSelector) =>
    state_key === undefined && (type === memberType || (type === undefined && !lazy))
  return include.some(all) && !exclude.some(({ type }) => type === undefined || type === memberType)
}

/** Whether an event is asked for whatever happens in the timeline; lazily loaded members are not. */
export function isRequired({ alternatives }: RequiredState, type: string, state_key: string): boolean {
  for (const { include, exclude, lazy } of alternatives) {
    const matches = (selector: StateSelector) =>
      (selector.state_key === undefined || selector.state_key === state_key) &&
      (selector.type === undefined ? !(lazy && type === memberType) : selector.type === type)
    if (!include.some(matches)) continue
    if (exclude.some((s) => (s.type ?? type) === type && (s.state_key ?? state_key) === state_key)) continue
    return true
  }
  return false
}

/** What has to be read of a room's state so that everything that is asked for is among it. */
export interface StateSelection {
  readonly pairs: readonly { readonly type: string; readonly state_key: string }[]
  readonly types: readonly string[]
  readonly keys: readonly string[]
  /** Everything but member events; every member event. */
  readonly rest: boolean
  readonly members: boolean
}

export function selectionOf({ alternatives, allMembers }: RequiredState): StateSelection {
  const pairs = new Map<string, { type: string; state_key: string }>()
  const types = new Set<string>()
  const keys = new Set<string>()
  let rest = false
  for (const { include } of alternatives) {
    for (const { type, state_key } of include) {
      if (type !== undefined && state_key !== undefined) pairs.set(`${type}\0${state_key}`, { type, state_key })
      else if (type !== undefined) types.add(type)
      else if (state_key !== undefined) keys.add(state_key)
      else rest = true
    }
  }
  return { pairs: [...pairs.values()], types: [...types], keys: [...keys], rest, members: allMembers }
}
