-- What a reader of streams that missed updates reads in their place.

-- Positions alone, over all rooms and users: readers catch up in the order of the stream.
create index receipts_stream on receipts (position);
create index account_data_stream on account_data (position);

create table invalidations (
  position bigint primary key,             -- in stream invalidations
  cache text collate "C" not null,
  key text collate "C" not null
);
comment on table invalidations is 'owner: functions/main/persist; retention: the newest 100,000, pruned by functions/main';

-- As before, and invalidations are kept.
create or replace function commit_rest(rest jsonb, events_base bigint, receipts_base bigint, account_data_base bigint)
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
  if rest ? 'invalidations' then
    insert into invalidations (position, cache, key)
      -- This transaction has moved the stream on already.
      select s.position - jsonb_array_length(rest->'invalidations') + at, cache, key
      from streams s, jsonb_to_recordset(rest->'invalidations') as x(cache text, key text, at integer)
      where s.name = 'invalidations';
  end if;
end $$;
