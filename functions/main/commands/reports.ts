import type { Clock } from '../../../shared/clock.ts'
import type { MainClient } from '../../../shared/commands/registry.ts'
import { pgText } from '../../../shared/storage/sql.ts'
import { answered } from '../command-call.ts'
import { type Committer, joinWrites } from '../persist/writes.ts'

export function reportHandlers({
  committer,
  clock,
}: {
  readonly committer: Committer
  readonly clock: Clock
}): Pick<MainClient, 'fileReport'> {
  return {
    async fileReport({ reporter, about, reason, score }) {
      const now = clock.now()
      const { room_id, event_id, user_id } = { room_id: null, event_id: null, user_id: null, ...about }
      const text = reason === undefined ? null : pgText(reason.toWellFormed())
      await committer.commit(
        joinWrites(
          {
            also: (tx) => [
              tx`insert into reports (kind, reporter, room_id, event_id, user_id, reason, score, received_ts)
                values (${about.kind}, ${reporter}, ${room_id && pgText(room_id)}, ${event_id && pgText(event_id)},
                  ${user_id && pgText(user_id)}, ${text}, ${score ?? null}, ${now})`,
            ],
          },
          answered({}),
        ),
      )
      return {}
    },
  }
}
