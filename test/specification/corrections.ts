/** Where the specification's own description of an answer is wrong, or says less than its text: each with its reason. */
import { isRecord, type JsonSchema, type Specification } from './specification.ts'

interface Correction {
  /** `operations/<id>/responses/<status>/…` or `schemas/<name>/…`, as in client-server.json. */
  readonly at: readonly string[]
  readonly becomes: JsonSchema | undefined
  readonly why: string
}

export const corrections: readonly Correction[] = []

/** The description with every correction in its place. Throws where one has no place to go to: then it is out of date. */
export function corrected(specification: Specification): Specification {
  for (const { at, becomes } of corrections) {
    let place: Record<string, unknown> = { ...specification }
    for (const key of at.slice(0, -1)) {
      const next = place[key]
      if (!isRecord(next)) throw new Error(`nothing to correct at ${at.join('/')}`)
      place = next
    }
    const last = at.at(-1) ?? ''
    if (!Object.hasOwn(place, last)) throw new Error(`nothing to correct at ${at.join('/')}`)
    if (becomes === undefined) delete place[last]
    else place[last] = becomes
  }
  return specification
}
