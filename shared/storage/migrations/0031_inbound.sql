-- Events of other servers that wait for what they build on, in the order in which they came. They are checked but for
-- their authorisation.
create table staged_pdus (
  seq bigint generated always as identity primary key,
  room_nid bigint not null,
  event_id text collate "C" not null,
  origin text collate "C" not null,          -- the server that sent it here
  received_ts bigint not null,
  content text not null,                     -- as in events
  envelope text not null,
  unique (room_nid, event_id)
);
create index staged_pdus_room on staged_pdus (room_nid, seq);
comment on table staged_pdus is 'owner: functions/main/federation; retention: until the event is processed, or given up on';

-- Gives outliers their places, `at` after the stream's position before this batch, or none where they stay out of the
-- timeline. What the event says stays as it is: it may have been redacted meanwhile.
create function place_outliers(placed jsonb, events_base bigint) returns void language sql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
  update events e set position = events_base + x.at, depth = x.depth, state_root = x.state_root,
    replaces_nid = x.replaces_nid, thread_root = x.thread_root, push = coalesce(x.push, 0), flags = coalesce(x.flags, 0)
  from jsonb_to_recordset(placed) as x(event_nid bigint, at integer, depth bigint, state_root bigint,
    replaces_nid bigint, thread_root text, push smallint, flags smallint)
  where e.event_nid = x.event_nid;
$$;

-- As before, and outliers that get a place.
create or replace function commit_batch(
  p_writer text, p_epoch bigint, p_batch bigint, p_counts bigint[],
  p_event_nid bigint[], p_event_id text[], p_room_nid bigint[], p_at integer[], p_depth bigint[], p_type text[],
  p_state_key text[], p_sender text[], p_origin_server_ts bigint[], p_content text, p_envelope text,
  p_state_root bigint[], p_replaces_nid bigint[], p_redacts text[], p_relates_to text[], p_rel_type text[],
  p_thread_root text[], p_push smallint[], p_flags smallint[], p_device_id text[], p_txn_id text[],
  p_head_room bigint[], p_head_extremities text[], p_head_root bigint[], p_head_depth bigint[],
  p_scope text[], p_key text[], p_response text, p_created_ts bigint, p_rest jsonb
) returns bigint[] language plpgsql as $$
#variable_conflict use_column
declare
  after_events bigint;
  after_receipts bigint;
  after_account_data bigint;
  after_invalidations bigint;
begin
  -- Row locks in one fixed order: they order the commits, so that positions become visible in order.
  update streams set position = position + p_counts[1] where name = 'events' returning position into after_events;
  if p_counts[2] > 0 then
    update streams set position = position + p_counts[2] where name = 'receipts' returning position into after_receipts;
  end if;
  if p_counts[3] > 0 then
    update streams set position = position + p_counts[3] where name = 'account_data' returning position into after_account_data;
  end if;
  if p_counts[4] > 0 then
    update streams set position = position + p_counts[4] where name = 'invalidations' returning position into after_invalidations;
  end if;
  update committers set batch = p_batch, positions = array[after_events, coalesce(after_receipts, positions[2]),
      coalesce(after_account_data, positions[3]), coalesce(after_invalidations, positions[4])]
    where name = p_writer and epoch = p_epoch;
  if not found then
    raise exception 'another process writes as %', p_writer using errcode = 'GN001';
  end if;

  if p_rest ? 'rooms' then
    insert into rooms (room_nid, room_id, room_version, creator, created_ts, published)
      select room_nid, room_id, room_version, creator, created_ts, published
      from jsonb_to_recordset(p_rest->'rooms') as x(room_nid bigint, room_id text, room_version text, creator text,
        created_ts bigint, published boolean);
  end if;
  if p_event_nid <> '{}' then
    insert into events (event_nid, event_id, room_nid, position, depth, type, state_key, sender, origin_server_ts,
        content, envelope, state_root, replaces_nid, redacts, relates_to, rel_type, thread_root, push, flags,
        device_id, txn_id)
      select event_nid, event_id, room_nid, after_events - p_counts[1] + at, depth, type, state_key, sender,
        origin_server_ts, content, envelope, state_root, replaces_nid, redacts, relates_to, rel_type, thread_root,
        push, flags, device_id, txn_id
      -- In the select list they are read in step; in `from`, each array would be copied into a table of its own.
      from (select
        unnest(p_event_nid) as event_nid, unnest(p_event_id) as event_id, unnest(p_room_nid) as room_nid,
        unnest(p_at) as at, unnest(p_depth) as depth, unnest(p_type) as type, unnest(p_state_key) as state_key,
        unnest(p_sender) as sender, unnest(p_origin_server_ts) as origin_server_ts,
        unnest(string_to_array(p_content, E'\x01')) as content,
        unnest(string_to_array(p_envelope, E'\x01')) as envelope, unnest(p_state_root) as state_root,
        unnest(p_replaces_nid) as replaces_nid, unnest(p_redacts) as redacts, unnest(p_relates_to) as relates_to,
        unnest(p_rel_type) as rel_type, unnest(p_thread_root) as thread_root, unnest(p_push) as push,
        unnest(p_flags) as flags, unnest(p_device_id) as device_id, unnest(p_txn_id) as txn_id) as x;
  end if;
  if p_rest ? 'placed' then
    perform place_outliers(p_rest->'placed', after_events - p_counts[1]);
  end if;
  if p_head_room <> '{}' then
    insert into room_heads (room_nid, forward_extremities, state_root, depth)
      select room_nid, forward_extremities::bigint[], state_root, depth
      from (select unnest(p_head_room) as room_nid, unnest(p_head_extremities) as forward_extremities,
        unnest(p_head_root) as state_root, unnest(p_head_depth) as depth) as x
      on conflict (room_nid) do update set forward_extremities = excluded.forward_extremities,
        state_root = excluded.state_root, depth = excluded.depth;
  end if;
  if p_scope <> '{}' then
    insert into idempotency (scope, key, response, created_ts)
      select scope, key, response, p_created_ts
      from (select unnest(p_scope) as scope, unnest(p_key) as key,
        unnest(string_to_array(p_response, E'\x01')) as response) as x;
  end if;
  if p_rest is not null then
    perform commit_rest(p_rest, after_events - p_counts[1], after_receipts - p_counts[2],
      after_account_data - p_counts[3]);
  end if;
  return array[after_events, after_receipts, after_account_data, after_invalidations];
end $$;
