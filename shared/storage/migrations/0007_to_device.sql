-- To-device messages, and the server-side backup of room keys.

insert into streams (name) values ('to_device') on conflict do nothing;

-- What a device has not fetched and acknowledged yet.
create table to_device (
  user_id text collate "C" not null,
  device_id text collate "C" not null,
  position bigint not null,                -- in stream to_device
  sender text collate "C" not null,
  type text collate "C" not null,
  content text not null,                   -- JSON of `content`, ready for clients
  primary key (user_id, device_id, position)
);
create unique index to_device_stream on to_device (position);
comment on table to_device is 'owner: functions/main/persist; retention: until the device has acknowledged it or is logged out';

-- Devices that are no more, or that began anew: their messages up to here are nobody's, and are deleted bit by bit.
create table ended_inboxes (
  user_id text collate "C" not null,
  device_id text collate "C" not null,
  up_to bigint not null,
  primary key (user_id, device_id)
);
comment on table ended_inboxes is 'owner: functions/main/background; retention: until the messages are deleted';

-- To be called in the transaction that takes devices away, before it does; null `devices`: all of the user's but `kept`.
create function end_inboxes(p_user text, devices text[], kept text) returns void language sql as $$
  insert into ended_inboxes (user_id, device_id, up_to)
    select d.user_id, d.device_id, s.position from devices d, streams s
    where d.user_id = p_user collate "C" and s.name = 'to_device'
      and case when devices is null then d.device_id <> kept collate "C" else d.device_id = any(devices) end
      and exists (select from to_device t where t.user_id = d.user_id and t.device_id = d.device_id)
  on conflict (user_id, device_id) do update set up_to = excluded.up_to;
$$;

-- The part of a commit that is about messages: sent in the transaction of its commit_batch, after it, so the order of commits
-- is settled. Messages stand at the next positions, in their order. A device that was taken away meanwhile gets none: its place
-- in the stream stays empty. Devices are taken away by commits too, so this sees all that came before. Returns the position of
-- stream to_device after it.
create function commit_to_device(p_writer text, p_user text[], p_device text[], p_sender text[], p_type text[],
  p_content text) returns bigint language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
  after_to_device bigint;
  added constant bigint := cardinality(p_user);
begin
  update streams set position = position + added where name = 'to_device' returning position into after_to_device;
  -- For a writer that loses its connection before the answer; commit_batch has set the others.
  update committers set positions[7] = after_to_device where name = p_writer;
  insert into to_device (user_id, device_id, position, sender, type, content)
    select x.user_id, x.device_id, after_to_device - added + x.at, x.sender, x.type, x.content
    from (select unnest(p_user) as user_id, unnest(p_device) as device_id, generate_series(1, added) as at,
      unnest(p_sender) as sender, unnest(p_type) as type, unnest(string_to_array(p_content, E'\x01')) as content) as x
    where exists (select from devices d
      where d.user_id = x.user_id collate "C" and d.device_id = x.device_id collate "C");
  return after_to_device;
end $$;

-- A user's device that no client runs: it gathers messages until one takes them (MSC3814). It is in `devices`, and its keys
-- are those of any device.
create table dehydrated_devices (
  user_id text collate "C" primary key,
  device_id text collate "C" not null,
  device_data text not null                -- JSON, as the client gave it
);
comment on table dehydrated_devices is 'owner: functions/main/commands; retention: until replaced, or as its device';

-- ── backup of room keys ──────────────────────────────────────────────────────────────────────────────────────────
create sequence room_key_sets;

create table room_key_versions (
  user_id text collate "C" not null,
  version bigint not null,                 -- 1, 2, … a user
  algorithm text collate "C" not null,
  auth_data text not null,                 -- JSON, as the client gave it
  key_set bigint not null,                 -- its keys; another one once all of them are deleted
  key_count bigint not null default 0,
  etag bigint not null default 0,          -- rises with every change of the keys
  deleted boolean not null default false,
  primary key (user_id, version)
);
comment on table room_key_versions is 'owner: functions/main/commands; retention: as its user (a version is never reused)';

create table room_keys (
  key_set bigint not null,
  room_id text collate "C" not null,
  session_id text collate "C" not null,
  first_message_index bigint not null,
  forwarded_count bigint not null,
  is_verified boolean not null,
  session_data text not null,              -- JSON, as the client gave it
  primary key (key_set, room_id, session_id)
);
comment on table room_keys is 'owner: functions/main/commands; retention: until deleted, or as its version';

create table ended_room_keys (
  key_set bigint primary key
);
comment on table ended_room_keys is 'owner: functions/main/background; retention: until the keys are deleted';

-- Stores keys (a JSON array) under the specification's rules of replacement, and moves count and etag along.
create function put_room_keys(p_user text, p_version bigint, keys jsonb) returns void language sql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
  with changed as (
    insert into room_keys as k (key_set, room_id, session_id, first_message_index, forwarded_count, is_verified,
        session_data)
      select v.key_set, x.room_id, x.session_id, x.first_message_index, x.forwarded_count, x.is_verified, x.session_data
      from room_key_versions v, jsonb_to_recordset(keys) as x(room_id text, session_id text, first_message_index bigint,
        forwarded_count bigint, is_verified boolean, session_data text)
      where v.user_id = p_user collate "C" and v.version = p_version and not v.deleted
    on conflict (key_set, room_id, session_id) do update set first_message_index = excluded.first_message_index,
        forwarded_count = excluded.forwarded_count, is_verified = excluded.is_verified,
        session_data = excluded.session_data
      where (excluded.is_verified::integer, -excluded.first_message_index, -excluded.forwarded_count)
        > (k.is_verified::integer, -k.first_message_index, -k.forwarded_count)
    returning xmax = 0 as inserted
  ), counted as (
    select count(*) filter (where inserted) as inserted, count(*) as changed from changed
  )
  update room_key_versions v set key_count = v.key_count + c.inserted, etag = v.etag + 1
  from counted c where c.changed > 0 and v.user_id = p_user collate "C" and v.version = p_version;
$$;

-- Deletes at most `limited` keys of a room, or one of them, and moves count and etag along.
create function delete_room_keys(p_user text, p_version bigint, p_room text, p_session text, limited integer)
returns void language sql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
  with gone as (
    delete from room_keys k using (
      select i.key_set, i.room_id, i.session_id from room_key_versions v join room_keys i using (key_set)
      where v.user_id = p_user collate "C" and v.version = p_version and not v.deleted
        and i.room_id = p_room collate "C" and (p_session is null or i.session_id = p_session collate "C")
      limit limited) d
    where k.key_set = d.key_set and k.room_id = d.room_id and k.session_id = d.session_id
    returning 1
  ), counted as (
    select count(*) as keys from gone
  )
  update room_key_versions v set key_count = v.key_count - c.keys, etag = v.etag + 1
  from counted c where c.keys > 0 and v.user_id = p_user collate "C" and v.version = p_version;
$$;

-- All keys of these versions are gone at once; deleting their rows is left to the background. Null `versions`: all.
create function end_room_keys(p_user text, versions bigint[]) returns void language sql as $$
  insert into ended_room_keys (key_set)
    select v.key_set from room_key_versions v where v.user_id = p_user collate "C"
      and (versions is null or v.version = any(versions)) and v.key_count > 0;
  update room_key_versions v set key_set = nextval('room_key_sets'), key_count = 0, etag = v.etag + 1
    where v.user_id = p_user collate "C" and (versions is null or v.version = any(versions)) and v.key_count > 0;
$$;
