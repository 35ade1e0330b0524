import { canonicalJsonLoose } from '../../../../shared/matrix/canonical-json.ts'
import type { JsonObject } from '../../../../shared/matrix/json-value.ts'
import { parseJsonObject } from '../../../../shared/matrix/parse-json.ts'

/** What signatures on the object are made of; two objects with the same text differ in their signatures alone.
 *  https://spec.matrix.org/v1.19/appendices/#signing-json */
export function signedPart(object: string | JsonObject): string {
  const { signatures: _, unsigned: __, ...signed } = typeof object === 'string' ? parseJsonObject(object) : object
  return canonicalJsonLoose(signed)
}
