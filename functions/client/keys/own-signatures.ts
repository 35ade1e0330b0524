import { isJsonObject, type JsonObject } from '../../../shared/matrix/json-value.ts'

/** The signatures on an object that its user made: what others sign is uploaded apart from the key. */
export function ownSignatures(object: JsonObject, user_id: string): JsonObject {
  const { signatures } = object
  if (!isJsonObject(signatures) || !Object.hasOwn(signatures, user_id)) return {}
  const own = signatures[user_id]
  return isJsonObject(own) ? { [user_id]: own } : {}
}
