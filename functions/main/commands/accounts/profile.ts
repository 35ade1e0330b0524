/** Profiles. https://spec.matrix.org/v1.19/client-server-api/#profiles */
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { JsonObject, JsonValue } from '../../../../shared/matrix/json-value.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import { fromPgText, pgText } from '../../../../shared/storage/sql.ts'
import type { AccountDeps } from './deps.ts'

const profileBytesMax = 64 * 1024

export function profileHandlers(deps: AccountDeps): Pick<MainClient, 'setProfileField'> {
  const { sql, committer } = deps
  return {
    // One at a time a user: the rooms must end up with the newest profile.
    setProfileField: ({ user_id, field, value }) =>
      deps.queue.run(`profile ${user_id}`, async () => {
        const [held] = await sql<{ display_name: string | null; avatar_url: string | null; fields: string }[]>`
          select display_name, avatar_url, fields from profiles where user_id = ${user_id}`
        const profile = new Map<string, JsonValue>(
          Object.entries(JSON.parse(fromPgText(held?.fields ?? '{}')) as JsonObject),
        )
        if (held?.display_name != null) profile.set('displayname', fromPgText(held.display_name))
        if (held?.avatar_url != null) profile.set('avatar_url', fromPgText(held.avatar_url))

        if (value === undefined) profile.delete(field)
        else profile.set(field, JSON.parse(value) as JsonValue)
        if (Buffer.byteLength(JSON.stringify(Object.fromEntries(profile))) > profileBytesMax) {
          throw new MatrixError('M_PROFILE_TOO_LARGE', `A profile has ${profileBytesMax} bytes at most`)
        }
        const displayname = text(profile.get('displayname'))
        const avatar_url = text(profile.get('avatar_url'))
        profile.delete('displayname')
        profile.delete('avatar_url')
        const fields = pgText(JSON.stringify(Object.fromEntries(profile)))
        await committer.commit({
          invalidations: [{ cache: 'profile', key: user_id }],
          also: (tx) => [
            tx`insert into profiles (user_id, display_name, avatar_url, fields)
              values (${user_id}, ${orNull(displayname)}, ${orNull(avatar_url)}, ${fields})
              on conflict (user_id) do update set display_name = excluded.display_name,
                avatar_url = excluded.avatar_url, fields = excluded.fields`,
          ],
        })
        if (field === 'displayname' || field === 'avatar_url') {
          await deps.rooms.memberProfileChanged(user_id, { displayname, avatar_url })
        }
        return {}
      }),
  }
}

function text(value: JsonValue | undefined): string | undefined {
  return typeof value === 'string' ? value : undefined
}
function orNull(value: string | undefined): string | null {
  return value === undefined ? null : pgText(value)
}
