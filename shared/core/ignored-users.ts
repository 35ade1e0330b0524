import { isJsonObject } from '../matrix/json-value.ts'

/** Whom account data `m.ignored_user_list` (JSON text) names; nobody where it has another form.
 *  https://spec.matrix.org/v1.19/client-server-api/#ignoring-users */
export function ignoredUsers(content: string): ReadonlySet<string> {
  const parsed: unknown = JSON.parse(content)
  const list = isJsonObject(parsed) ? parsed.ignored_users : undefined
  return new Set(isJsonObject(list) ? Object.keys(list) : [])
}
