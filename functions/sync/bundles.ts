/** Bundled aggregations of the events that an answer shows. What a client hears as it happens has no children yet, so
 *  only timelines that start anew are looked at. https://spec.matrix.org/v1.19/client-server-api/#aggregations-of-child-events */
import { roomsWithRelations } from '../../shared/storage/sync-relations.ts'
import { bundledRelations } from '../../shared/timeline/bundled-relations.ts'
import type { AnswerContext } from './answer.ts'
import type { Soon } from './soon.ts'
import { isVisible, type RoomSection } from './timelines.ts'

type BundleContext = Pick<AnswerContext, 'sql' | 'viewer' | 'now' | 'user'>

const none: ReadonlyMap<string, string> = new Map()

/** JSON of `m.relations` by event id. */
export function bundlesOf(
  context: BundleContext,
  upTo: number,
  sections: readonly RoomSection[],
): Soon<ReadonlyMap<string, string>> {
  const anew = sections.filter((section) => section.limited || section.part.fresh || !section.cached)
  return anew.length === 0 ? none : readBundles(context, upTo, anew)
}

async function readBundles(
  context: BundleContext,
  upTo: number,
  anew: readonly RoomSection[],
): Promise<ReadonlyMap<string, string>> {
  const ids = anew.flatMap(({ events }) => events.map(({ event }) => event.event_id))
  if (ids.length === 0) return none
  const related = await roomsWithRelations(context.sql, ids)
  if (related.size === 0) return none
  const bundles = new Map<string, string>()
  const { sql, viewer, now, user } = context
  for (const { part, events, changes } of anew) {
    const { membership } = part
    if (!related.has(membership.room_nid)) continue
    const found = await bundledRelations(
      events.map(({ event }) => event),
      {
        sql,
        room: membership,
        viewer,
        now,
        roomId: false,
        upTo: Math.min(upTo, part.upTo),
        ignored: user.ignored,
        // Children come after their parents: where the timeline lies within one stay of the user's, so do they.
        seesAll: changes === undefined,
        seen: async (children) =>
          children
            .filter((event) => changes === undefined || isVisible(changes, event.position))
            .map((event) => ({ event, membership: membership.membership })),
      },
    )
    for (const [event_id, json] of found) bundles.set(event_id, json)
  }
  return bundles
}
