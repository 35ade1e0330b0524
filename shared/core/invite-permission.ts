/** From whom a user takes invites, as their account data say.
 *  https://spec.matrix.org/v1.19/client-server-api/#invite-permission, and for lists of users and servers
 *  https://github.com/matrix-org/matrix-spec-proposals/pull/4155 */
import { isJsonObject, type JsonObject, type JsonValue } from '../matrix/json-value.ts'
import { domainOf } from '../matrix/user-id.ts'
import { compileGlob, type Glob } from './glob.ts'

/** Who is blocked is told so; who is ignored is not, and the invite shows nowhere. */
export type InviteRule = 'allow' | 'ignore' | 'block'

export interface InvitePermission {
  ruleFor(sender: string): InviteRule
}

/** The types of account data that have a say. */
export const invitePermissionTypes = ['m.invite_permission_config', 'org.matrix.msc4155.invite_permission_config']

/** Ids have 255 bytes at most: a longer pattern is not meant for any. */
const patternCharactersMax = 255

interface Patterns {
  readonly rule: InviteRule
  readonly of: (sender: string) => string
  readonly globs: readonly Glob[]
}

/** `contents`: JSON text by type. What is missing, or has another form than it should, lets every invite through. */
export function compileInvitePermission(contents: ReadonlyMap<string, string>): InvitePermission {
  const [stable, proposed] = invitePermissionTypes.map((type) => parsed(contents.get(type)))
  if (stable?.default_action === 'block') return { ruleFor: () => 'block' }
  if (!proposed) return takesAll
  // Users come before servers, and what is allowed before what is not.
  const lists: readonly Patterns[] = [
    { rule: 'allow', of: whole, globs: globs(proposed.allowed_users) },
    { rule: 'ignore', of: whole, globs: globs(proposed.ignored_users) },
    { rule: 'block', of: whole, globs: globs(proposed.blocked_users) },
    { rule: 'allow', of: domainOf, globs: globs(proposed.allowed_servers) },
    { rule: 'ignore', of: domainOf, globs: globs(proposed.ignored_servers) },
    { rule: 'block', of: domainOf, globs: globs(proposed.blocked_servers) },
  ]
  return {
    ruleFor(sender) {
      const found = lists.find(({ of, globs }) => globs.some((glob) => glob.matches(of(sender))))
      return found?.rule ?? 'allow'
    },
  }
}

const takesAll: InvitePermission = { ruleFor: () => 'allow' }

const whole = (sender: string) => sender

function parsed(content: string | undefined): JsonObject | undefined {
  const value: unknown = content === undefined ? undefined : JSON.parse(content)
  return isJsonObject(value) ? value : undefined
}

function globs(list: JsonValue | undefined): Glob[] {
  if (!Array.isArray(list)) return []
  return list.flatMap((pattern) =>
    typeof pattern === 'string' && pattern !== '' && pattern.length <= patternCharactersMax
      ? [compileGlob(pattern)]
      : [],
  )
}
