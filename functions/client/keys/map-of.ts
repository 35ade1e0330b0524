import * as v from 'valibot'
import { isJsonObject } from '../../../shared/matrix/json-value.ts'

/** A JSON object as a map: `v.record` alone would take a list for one, whose keys are numbers. */
export function mapOf<
  K extends v.BaseSchema<string, string, v.BaseIssue<unknown>>,
  V extends v.GenericSchema<unknown, unknown>,
>(key: K, value: V) {
  return v.pipe(
    v.custom<{ [name: string]: unknown }>(isJsonObject, 'it must be an object'),
    v.record(key, value as v.GenericSchema<unknown, v.InferOutput<V>>),
  )
}
