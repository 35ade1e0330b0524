-- Events that something in a room's timeline follows and that have no place in it: where history goes on at other servers.
-- What is fetched gets positions below zero, counting down: pages of a timeline run on into it, and no sync shows it.
create table backward_gaps (
  room_nid bigint not null,
  event_id text collate "C" not null,
  retry_ts bigint not null default 0,    -- nobody had it: it is not asked for again before
  primary key (room_nid, event_id)
);
comment on table backward_gaps is 'owner: functions/main/federation; retention: until the event has a place, or is known to get none';
