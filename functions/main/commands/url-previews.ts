import type { Clock } from '../../../shared/clock.ts'
import type { MainClient } from '../../../shared/commands/registry.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'

export function urlPreviewHandlers({
  sql,
  clock,
}: {
  readonly sql: MainSql
  readonly clock: Clock
}): Pick<MainClient, 'claimUrlPreview' | 'storeUrlPreview'> {
  return {
    async claimUrlPreview({ key, claim, lifetime_ms }) {
      const now = clock.now()
      const until = now + lifetime_ms
      const { count } = await sql`
        insert into url_previews (key, claim, claimed_until, answer, expires_ts)
        values (${key}, ${claim}, ${until}, null, ${until})
        on conflict (key) do update
          set claim = excluded.claim, claimed_until = excluded.claimed_until, answer = null,
            expires_ts = excluded.expires_ts
          where url_previews.expires_ts <= ${now}
            or (url_previews.claim = excluded.claim and url_previews.claimed_until > 0)`
      return { claimed: count > 0 }
    },
    async storeUrlPreview({ key, claim, answer, lifetime_ms }) {
      await sql`
        update url_previews set claimed_until = 0, answer = ${answer}, expires_ts = ${clock.now() + lifetime_ms}
        where key = ${key} and claim = ${claim} and claimed_until > 0`
      return {}
    },
  }
}
