/** https://spec.matrix.org/v1.19/client-server-api/#user-directory */
import * as v from 'valibot'
import { fold, wordsOf } from '../../../shared/core/words.ts'
import { localpartOf } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { type DirectoryUser, visibleUsers } from '../../../shared/storage/user-directory.ts'
import { route } from '../deps.ts'
import { indexCaughtUp } from './caught-up.ts'

const limits = { standard: 10, most: 50 }
/** Words of a search beyond these are left out. */
const wordsMax = 8

export const searchUsers = route({
  method: 'POST',
  path: '/_matrix/client/v3/user_directory/search',
  spec: 'client-server-api/#post_matrixclientv3user_directorysearch',
  auth: 'user',
  limit: 'read',
  body: v.object({
    search_term: v.string(),
    limit: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(0))),
  }),
  async handle({ body, user: { user_id: asker } }, deps) {
    const { enabled, search_all_users: everybody } = deps.config.user_directory
    if (!enabled) throw new MatrixError('M_FORBIDDEN', 'This server keeps no user directory')
    const limit = Math.min(body.limit ?? limits.standard, limits.most)
    const prefixes = prefixesOf(body.search_term)
    if (!isSome(prefixes)) return { results: [], limited: false }
    await indexCaughtUp(deps, 'users')
    const { users, more } = await visibleUsers(deps.sql, { asker, prefixes, everybody })
    const ranked = users
      .map((user) => ({ user, rank: rankOf(user, fold(body.search_term.trim())) }))
      .sort((a, b) => b.rank - a.rank || (a.user.user_id < b.user.user_id ? -1 : 1))
    return {
      results: ranked.slice(0, limit).map(({ user: { user_id, display_name, avatar_url } }) => ({
        user_id,
        ...(display_name === null ? {} : { display_name }),
        ...(avatar_url === null ? {} : { avatar_url }),
      })),
      limited: more || ranked.length > limit,
    }
  },
})

/** The longest first, which is likely the rarest. What is typed like an id stays in one piece. */
function prefixesOf(term: string): string[] {
  const trimmed = term.trim()
  if (trimmed.startsWith('@')) return trimmed.length > 1 ? [fold(trimmed)] : []
  if (/^[^\s:]+:\S*$/.test(trimmed)) return [fold(`@${trimmed}`)]
  const words = new Set(wordsOf(trimmed, wordsMax).map((word) => word.folded))
  return [...words].sort((a, b) => b.length - a.length)
}

function isSome(list: readonly string[]): list is readonly [string, ...string[]] {
  return list.length > 0
}

/** The whole name before its beginning, that before any other word, whom one knows before strangers, and then who has a
 *  profile. */
function rankOf({ user_id, display_name, avatar_url, shared }: DirectoryUser, term: string): number {
  const localpart = fold(localpartOf(user_id))
  const name = display_name === null ? '' : fold(display_name)
  const whole = name === term || localpart === term || fold(user_id) === term
  const beginning = name.startsWith(term) || localpart.startsWith(term)
  return (
    (whole ? 16 : 0) + (beginning ? 8 : 0) + (shared ? 4 : 0) + (display_name !== null ? 2 : 0) + (avatar_url ? 1 : 0)
  )
}
