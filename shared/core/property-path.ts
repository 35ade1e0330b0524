/** Dot-separated property paths: `content.m\.relates_to.rel_type`.
 *  https://spec.matrix.org/v1.19/appendices/#dot-separated-property-paths */
import { isJsonObject, type JsonObject, type JsonValue } from '../matrix/json-value.ts'

/** The path's keys. `\.` is a dot within a key and `\\` a backslash; any other backslash stands for itself. */
export function parsePropertyPath(path: string): string[] {
  if (!path.includes('\\')) return path.split('.')
  const keys: string[] = []
  let key = ''
  for (let i = 0; i < path.length; i++) {
    const c = path.charAt(i)
    const following = path.charAt(i + 1)
    if (c === '\\' && (following === '.' || following === '\\')) {
      key += following
      i++
    } else if (c === '.') {
      keys.push(key)
      key = ''
    } else {
      key += c
    }
  }
  keys.push(key)
  return keys
}

/** The value at `keys`, from key `from` on; undefined when any step is absent or no object. */
export function propertyAt(object: JsonObject, keys: readonly string[], from = 0): JsonValue | undefined {
  let value: JsonValue | undefined = object
  for (let i = from; i < keys.length; i++) {
    const key = keys[i]
    if (key === undefined || !isJsonObject(value) || !Object.hasOwn(value, key)) return undefined
    value = value[key]
  }
  return value
}
