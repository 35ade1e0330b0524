-- What goes to other servers: which events, to whom, how far each has come, and what is on its way.

-- The shard of a server's name, as functions hash it (shared/commands/shards.ts).
create function shard_of(key text) returns smallint language sql immutable strict parallel safe
  return (get_byte(sha256(convert_to(key, 'UTF8')), 2) % 64)::smallint;

-- https://spec.matrix.org/v1.19/appendices/#server-name; a user id in a member event may name anything.
create function is_server_name(name text) returns boolean language sql immutable strict parallel safe
  return length(name) <= 230 and name ~ '^([0-9A-Za-z.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$';

create table destinations (
  server_name text collate "C" primary key,
  shard smallint not null,               -- whose owner sends to it
  cursor bigint not null,                -- in stream events: what is for it up to here, it has
  transaction_id text collate "C",       -- what is on its way, and is sent until it arrives; null: nothing
  transaction_upto bigint,               -- the cursor after it
  transaction_edu bigint,                -- outbound_edus.edu_id of the last one in it
  attempts integer not null default 0,   -- failed ones in a row
  failing_since_ts bigint,
  retry_ts bigint,                       -- not before; null: at any time
  last_error text,
  last_success_ts bigint
) with (fillfactor = 50);
comment on table destinations is 'owner: functions/main/federation; retention: forever (one row a server)';

-- One body goes to many destinations under one id.
create table outbound_transactions (
  transaction_id text collate "C" primary key,
  body text not null,
  created_ts bigint not null
);
comment on table outbound_transactions is 'owner: functions/main/federation; retention: until no destination waits for it';

-- Events that go to other servers: to those in the room at that position, but not to the one they came from.
create table outbound_events (
  position bigint primary key,
  room_nid bigint not null,
  event_nid bigint not null,
  origin text collate "C" not null,
  also_to text collate "C"               -- a server that need not be in the room: an invitation of its user is taken back
);
create index outbound_events_room on outbound_events (room_nid, position);
create index outbound_events_also_to on outbound_events (also_to, position) where also_to is not null;
comment on table outbound_events is 'owner: functions/main/persist; retention: until every destination has come past it';

-- From which event on a server has been in a room, and until which: both are for it. Triggers on memberships keep it.
create table room_servers (
  room_nid bigint not null,
  server_name text collate "C" not null,
  since bigint not null,
  until bigint,                          -- null: it still is
  joined integer not null,               -- its joined members
  primary key (room_nid, server_name, since)
);
create unique index room_servers_now on room_servers (room_nid, server_name) where until is null;
create index room_servers_server on room_servers (server_name);
comment on table room_servers is 'owner: functions/main/persist; retention: as its room; ended ones until every destination has come past them';

-- EDUs that must arrive, in the order of their ids.
create table outbound_edus (
  edu_id bigint generated always as identity primary key,
  server_name text collate "C" not null,
  edu_type text collate "C" not null,
  content text not null
);
create index outbound_edus_server on outbound_edus (server_name, edu_id);
comment on table outbound_edus is 'owner: functions/main/federation; retention: until delivered';

create function change_room_servers(p_room bigint[], p_server text[], p_delta integer[], p_first bigint[], p_last bigint[])
returns void language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
begin
  update room_servers s set joined = s.joined + x.delta,
      until = case when s.joined + x.delta <= 0 then greatest(x.last, s.since) end
    from (select unnest(p_room) as room_nid, unnest(p_server) as server_name, unnest(p_delta) as delta,
      unnest(p_last) as last) x
    where s.room_nid = x.room_nid and s.server_name = x.server_name and s.until is null and x.delta <> 0;
  insert into destinations (server_name, shard, cursor)
    select x.server_name, shard_of(x.server_name), min(x.first) - 1
    from (select unnest(p_server) as server_name, unnest(p_delta) as delta, unnest(p_first) as first) x
    where x.delta > 0 group by x.server_name
    on conflict do nothing;
  insert into room_servers (room_nid, server_name, since, joined)
    select x.room_nid, x.server_name, x.first, x.delta
    from (select unnest(p_room) as room_nid, unnest(p_server) as server_name, unnest(p_delta) as delta,
      unnest(p_first) as first) x
    where x.delta > 0 and not exists (
      select from room_servers s where s.room_nid = x.room_nid and s.server_name = x.server_name and s.until is null)
    on conflict (room_nid, server_name, since) do update set until = null, joined = excluded.joined;
end $$;

create function memberships_inserted() returns trigger language plpgsql as $$
begin
  perform change_room_servers(array_agg(room_nid), array_agg(server_name), array_agg(delta), array_agg(first), array_agg(first))
    from (
      select room_nid, server_of(user_id) as server_name, count(*)::integer as delta, min(position) as first
      from new_rows where not local and membership = 'join' and is_server_name(server_of(user_id))
      group by 1, 2
    ) x having count(*) > 0;
  return null;
end $$;
create trigger memberships_inserted after insert on memberships referencing new table as new_rows
  for each statement execute function memberships_inserted();

create function memberships_updated() returns trigger language plpgsql as $$
begin
  perform change_room_servers(array_agg(room_nid), array_agg(server_name), array_agg(delta), array_agg(first), array_agg(last))
    from (
      select room_nid, server_of(user_id) as server_name, sum(delta)::integer as delta,
        coalesce(min(position) filter (where delta > 0), 0) as first, max(position) as last
      from (
        select user_id, room_nid, position, 1 as delta from new_rows where not local and membership = 'join'
        union all
        select user_id, n.room_nid, n.position, -1 from old_rows o join new_rows n using (user_id)
        where n.room_nid = o.room_nid and not o.local and o.membership = 'join'
      ) changed
      where is_server_name(server_of(user_id))
      group by 1, 2 having sum(delta) <> 0
    ) x having count(*) > 0;
  return null;
end $$;
create trigger memberships_updated after update on memberships referencing old table as old_rows new table as new_rows
  for each statement execute function memberships_updated();

create function memberships_deleted() returns trigger language plpgsql as $$
declare
  now_position bigint := (select position from streams where name = 'events');
begin
  perform change_room_servers(array_agg(room_nid), array_agg(server_name), array_agg(delta), array_agg(now_position), array_agg(now_position))
    from (
      select room_nid, server_of(user_id) as server_name, -count(*)::integer as delta
      from old_rows where not local and membership = 'join' and is_server_name(server_of(user_id))
      group by 1, 2
    ) x having count(*) > 0;
  return null;
end $$;
create trigger memberships_deleted after delete on memberships referencing old table as old_rows
  for each statement execute function memberships_deleted();

insert into destinations (server_name, shard, cursor)
  select server_name, shard_of(server_name), (select position from streams where name = 'events')
  from (select distinct server_of(user_id) as server_name from memberships where membership = 'join' and not local) x
  where is_server_name(server_name);
insert into room_servers (room_nid, server_name, since, joined)
  select room_nid, server_of(user_id), 0, count(*) from memberships
  where membership = 'join' and not local and is_server_name(server_of(user_id)) group by 1, 2;
