/** Events of other servers that wait for what they build on: kept until they are processed, so that a 200 to their sender
 *  stands, whatever happens here. */
import { pduFromStored, type StoredEvent } from '../../../shared/matrix/event-format.ts'
import type { EventId, RoomId, ServerName } from '../../../shared/matrix/ids.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'
import type { Room } from '../rooms/room.ts'

export interface StagedEvent {
  readonly seq: number
  readonly origin: ServerName
  readonly event: StoredEvent
}

/** Events that may wait for one room: whoever sends more is told to come again. */
const stagedPerRoomMax = 20_000

/** Resolves once they are stored, with false where too many are waiting already; then none is. */
export async function stageEvents(
  sql: MainSql,
  room: Pick<Room, 'room_nid'>,
  {
    origin,
    now,
    events,
  }: { readonly origin: ServerName; readonly now: number; readonly events: readonly StoredEvent[] },
): Promise<boolean> {
  const texts = (of: (event: StoredEvent) => string) => sql.array(events.map(of), 25)
  const [row] = await sql<{ room: boolean }[]>`
    with waiting as (select count(*) as n from staged_pdus where room_nid = ${room.room_nid}),
    staged as (
      insert into staged_pdus (room_nid, event_id, origin, received_ts, content, envelope)
      select ${room.room_nid}, event_id, ${origin}, ${now}, content, envelope
      from unnest(${texts(({ pdu }) => pdu.event_id)}::text[], ${texts((event) => event.content)}::text[],
        ${texts((event) => event.envelope)}::text[]) with ordinality as x(event_id, content, envelope, place), waiting
      where waiting.n + ${events.length} <= ${stagedPerRoomMax}
      order by place
      on conflict (room_nid, event_id) do nothing
    )
    select n + ${events.length} <= ${stagedPerRoomMax} as room from waiting`
  return row?.room === true
}

export async function nextStaged(
  sql: MainSql,
  room: Pick<Room, 'room_nid' | 'room_id' | 'rules'>,
  most: number,
): Promise<StagedEvent[]> {
  const rows = await sql<{ seq: number; event_id: EventId; origin: ServerName; content: string; envelope: string }[]>`
    select seq, event_id, origin, content, envelope from staged_pdus
    where room_nid = ${room.room_nid} order by seq limit ${most}`
  return rows.map(({ seq, event_id, origin, content, envelope }) => ({
    seq,
    origin,
    event: { pdu: pduFromStored(room.rules, event_id, room.room_id, envelope, content), content, envelope },
  }))
}

export async function unstage(sql: MainSql, staged: readonly StagedEvent[]): Promise<void> {
  if (staged.length === 0) return
  const seqs = sql.array(
    staged.map((one) => one.seq),
    20,
  )
  await sql`delete from staged_pdus where seq = any(${seqs}::bigint[])`
}

/** Rooms that somebody's events wait for. */
export async function stagedRooms(sql: MainSql): Promise<RoomId[]> {
  const rows = await sql<{ room_id: RoomId }[]>`
    select r.room_id from rooms r where exists (select from staged_pdus s where s.room_nid = r.room_nid)`
  return rows.map((row) => row.room_id)
}
