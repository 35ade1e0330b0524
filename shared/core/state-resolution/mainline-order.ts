/** The mainline ordering. https://spec.matrix.org/v1.19/rooms/v11/#definitions */
import type { EventId } from '../../matrix/ids.ts'
import type { EventStore, Work } from './event-store.ts'

/** Sorts `events` by where they leave the mainline of `power_levels`, oldest first. Without power levels there is no
 *  mainline, and time alone decides. */
export function* mainlineOrder(
  store: EventStore,
  events: readonly EventId[],
  power_levels: EventId | undefined,
): Work<EventId[]> {
  if (power_levels === undefined) return sorted(store, events, () => Number.POSITIVE_INFINITY)
  yield* store.need([power_levels])
  /** By power levels event; those beside the mainline are added as they are met. */
  const positions = new Map<EventId, number>()
  let next: EventId | undefined = power_levels
  while (next !== undefined && !positions.has(next)) {
    positions.set(next, positions.size)
    yield* store.needAuthEventsOf([next])
    next = powerLevelsOf(store, next)
  }
  yield* store.needAuthEventsOf(events)
  yield* loadPowerLevels(store, events, positions)

  const positionOf = (event: EventId): number => {
    const path: EventId[] = []
    let at = powerLevelsOf(store, event)
    while (at !== undefined && !positions.has(at)) {
      path.push(at)
      at = powerLevelsOf(store, at)
    }
    const position = (at !== undefined ? positions.get(at) : undefined) ?? Number.POSITIVE_INFINITY
    for (const passed of path) positions.set(passed, position)
    return position
  }
  return sorted(store, events, positionOf)
}

/** Brings in the power levels that the events' power levels rest on, up to the mainline. */
function* loadPowerLevels(
  store: EventStore,
  events: readonly EventId[],
  mainline: ReadonlyMap<EventId, number>,
): Work<void> {
  const seen = new Set<EventId>()
  let frontier: readonly EventId[] = events
  while (frontier.length > 0) {
    const next: EventId[] = []
    for (const id of frontier) {
      const above = powerLevelsOf(store, id)
      if (above === undefined || seen.has(above) || mainline.has(above)) continue
      seen.add(above)
      next.push(above)
    }
    yield* store.needAuthEventsOf(next)
    frontier = next
  }
}

/** The power levels event among an event's auth events. */
function powerLevelsOf(store: EventStore, id: EventId): EventId | undefined {
  return store.get(id).auth_events.find((auth) => {
    const pdu = store.get(auth)
    return pdu.type === 'm.room.power_levels' && pdu.state_key === ''
  })
}

function sorted(store: EventStore, events: readonly EventId[], positionOf: (id: EventId) => number): EventId[] {
  return events
    .map((id) => ({ id, position: positionOf(id), ts: store.get(id).origin_server_ts }))
    .sort((x, y) => {
      if (x.position !== y.position) return x.position > y.position ? -1 : 1
      if (x.ts !== y.ts) return x.ts - y.ts
      return x.id < y.id ? -1 : x.id > y.id ? 1 : 0
    })
    .map(({ id }) => id)
}
