-- The commit of functions/main/persist in one round trip: one call, one statement a table, however large the batch.

-- One row a writer. `epoch` fences: who connects raises it, and a statement of an older connection, however late it
-- arrives, fails. `batch` and `positions` tell after a lost connection if the last batch was committed, and where.
create table committers (
  name text collate "C" primary key,
  owner text collate "C" not null,                -- the process that holds the name
  epoch bigint not null default 1,
  backend_pid integer not null,                   -- the connection that holds it: the next one ends it, if it still runs
  backend_start timestamptz not null,
  batch bigint not null default 0,
  positions bigint[] not null default '{0,0,0,0}'   -- events, receipts, account_data, invalidations
) with (fillfactor = 10);
comment on table committers is 'owner: functions/main/persist; retention: one row a writer, forever';

-- What few commits hold. Positions are `at` places after the stream's position before this batch. Settings keep cached
-- plans on the indexes, whatever the tables' sizes were when the plan was made.
create function commit_rest(rest jsonb, events_base bigint, receipts_base bigint, account_data_base bigint)
returns void language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_column
begin
  if rest ? 'nodes' then
    insert into state_nodes (node_id, body)
      select decode(node_id, 'hex'), decode(body, 'hex')
      from jsonb_to_recordset(rest->'nodes') as x(node_id text, body text)
      on conflict do nothing;
  end if;
  if rest ? 'roots' then
    insert into state_roots (root_id, room_nid, node_id, delta)
      select root_id, room_nid, decode(node_id, 'hex'), decode(delta, 'hex')
      from jsonb_to_recordset(rest->'roots') as x(root_id bigint, room_nid bigint, node_id text, delta text);
  end if;
  if rest ? 'chains' then
    insert into auth_chains (event_nid, chain_id, sequence)
      select event_nid, chain_id, sequence
      from jsonb_to_recordset(rest->'chains') as x(event_nid bigint, chain_id bigint, sequence integer);
  end if;
  if rest ? 'links' then
    insert into auth_chain_links (from_chain, from_sequence, to_chain, to_sequence)
      select from_chain, from_sequence, to_chain, to_sequence from jsonb_to_recordset(rest->'links')
        as x(from_chain bigint, from_sequence integer, to_chain bigint, to_sequence integer)
      on conflict do nothing;
  end if;
  if rest ? 'removals' then
    delete from current_state c
      using jsonb_to_recordset(rest->'removals') as x(room_nid bigint, type text, state_key text)
      where c.room_nid = x.room_nid and c.type = x.type collate "C" and c.state_key = x.state_key collate "C";
  end if;
  if rest ? 'current_state' then
    insert into current_state (room_nid, type, state_key, event_nid)
      select room_nid, type, state_key, event_nid from jsonb_to_recordset(rest->'current_state')
        as x(room_nid bigint, type text, state_key text, event_nid bigint)
      on conflict (room_nid, type, state_key) do update set event_nid = excluded.event_nid;
  end if;
  if rest ? 'members' then
    insert into memberships as m
        (user_id, room_nid, membership, event_nid, position, sender, display_name, avatar_url, local)
      select user_id, room_nid, membership, event_nid, events_base + at, sender, display_name, avatar_url, local
      from jsonb_to_recordset(rest->'members') as x(user_id text, room_nid bigint, membership text, event_nid bigint,
        at integer, sender text, display_name text, avatar_url text, local boolean)
      on conflict (user_id, room_nid) do update set membership = excluded.membership, event_nid = excluded.event_nid,
        position = excluded.position, sender = excluded.sender, display_name = excluded.display_name,
        avatar_url = excluded.avatar_url, local = excluded.local,
        forgotten = m.forgotten and excluded.membership <> 'join';
  end if;
  if rest ? 'member_changes' then
    insert into membership_changes (user_id, position, room_nid, event_nid, membership, prev_membership)
      select user_id, events_base + at, room_nid, event_nid, membership, prev_membership
      from jsonb_to_recordset(rest->'member_changes') as x(user_id text, at integer, room_nid bigint,
        event_nid bigint, membership text, prev_membership text);
  end if;
  if rest ? 'summaries' then
    insert into room_summaries (room_nid, joined_members, invited_members, name, topic, canonical_alias, avatar_url,
        join_rule, history_visibility, guest_access, room_type, encryption)
      select room_nid, joined_members, invited_members, name, topic, canonical_alias, avatar_url,
        join_rule, history_visibility, guest_access, room_type, encryption
      from jsonb_to_recordset(rest->'summaries') as x(room_nid bigint, joined_members integer,
        invited_members integer, name text, topic text, canonical_alias text, avatar_url text, join_rule text,
        history_visibility text, guest_access text, room_type text, encryption text)
      on conflict (room_nid) do update set joined_members = excluded.joined_members,
        invited_members = excluded.invited_members, name = excluded.name, topic = excluded.topic,
        canonical_alias = excluded.canonical_alias, avatar_url = excluded.avatar_url, join_rule = excluded.join_rule,
        history_visibility = excluded.history_visibility, guest_access = excluded.guest_access,
        room_type = excluded.room_type, encryption = excluded.encryption;
  end if;
  if rest ? 'threads' then
    insert into threads as t (root_event_id, room_nid, latest_nid, latest_position, replies)
      select root_event_id, room_nid, latest_nid, events_base + at, replies
      from jsonb_to_recordset(rest->'threads')
        as x(root_event_id text, room_nid bigint, latest_nid bigint, at integer, replies integer)
      on conflict (root_event_id, room_nid) do update set latest_nid = excluded.latest_nid,
        latest_position = excluded.latest_position, replies = t.replies + excluded.replies;
  end if;
  if rest ? 'deviations' then
    insert into push_deviations (room_nid, position, user_id, class_id, push)
      select room_nid, events_base + at, user_id, class_id, push
      from jsonb_to_recordset(rest->'deviations')
        as x(room_nid bigint, at integer, user_id text, class_id integer, push smallint);
  end if;
  if rest ? 'redactions' then
    perform redact_events(rest->'redactions');
  end if;
  if rest ? 'receipts' then
    insert into receipts (room_nid, user_id, receipt_type, thread_id, event_id, event_position, ts, position)
      select room_nid, user_id, receipt_type, thread_id, event_id, event_position, ts, receipts_base + at
      from jsonb_to_recordset(rest->'receipts') as x(room_nid bigint, user_id text, receipt_type text,
        thread_id text, event_id text, event_position bigint, ts bigint, at integer)
      on conflict (user_id, room_nid, receipt_type, thread_id) do update set event_id = excluded.event_id,
        event_position = excluded.event_position, ts = excluded.ts, position = excluded.position;
  end if;
  if rest ? 'account_data' then
    insert into account_data (user_id, room_nid, type, content, position)
      select user_id, room_nid, type, content, account_data_base + at from jsonb_to_recordset(rest->'account_data')
        as x(user_id text, room_nid bigint, type text, content text, at integer)
      on conflict (user_id, room_nid, type) do update set content = excluded.content, position = excluded.position;
  end if;
end $$;

-- Takes from the targets what a redaction takes: content, relation, thread and notification; their threads are counted anew.
create function redact_events(redactions jsonb) returns void language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
  thread text;
  room bigint;
begin
  for thread, room in
    with old as (
      select e.event_nid, e.thread_root, e.room_nid, e.position
      from jsonb_to_recordset(redactions) as x(event_nid bigint) join events e on e.event_nid = x.event_nid
    ), forgotten as (
      delete from push_deviations d using old where d.room_nid = old.room_nid and d.position = old.position
    ), redacted as (
      update events e set content = x.content, envelope = x.envelope, redacted_by_nid = x.redacted_by_nid,
        relates_to = null, rel_type = null, thread_root = null, push = 0
      from jsonb_to_recordset(redactions)
        as x(event_nid bigint, content text, envelope text, redacted_by_nid bigint)
      where e.event_nid = x.event_nid
    )
    select distinct thread_root, room_nid from old where thread_root is not null
  loop
    update threads t set replies = left_over.replies, latest_nid = left_over.latest_nid, latest_position = left_over.latest_position
      from (select count(*)::integer as replies, max(position) as latest_position,
              (array_agg(event_nid order by position desc))[1] as latest_nid
            from events where thread_root = thread and room_nid = room and position is not null and rel_type = 'm.thread') left_over
      where t.root_event_id = thread and t.room_nid = room and left_over.replies > 0;
    delete from threads where root_event_id = thread and room_nid = room and not exists (
      select from events where thread_root = thread and room_nid = room and position is not null and rel_type = 'm.thread');
  end loop;
end $$;

-- Texts that are JSON come joined by U+0001, which JSON text cannot hold: cheaper than an array's quotes on both sides.
-- Returns the streams' positions after the batch: events, receipts, account_data, invalidations.
create function commit_batch(
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
