-- Keys of devices and of users, for end-to-end encryption, and the streams that tell of them.
-- JSON is kept as text, as it is given out.

insert into streams (name) values ('device_lists'), ('key_counts');

create table device_keys (
  user_id text collate "C" not null,
  device_id text collate "C" not null,
  keys text not null,                      -- JSON as uploaded, with the device's own user's signatures alone
  primary key (user_id, device_id)
);
comment on table device_keys is 'owner: functions/main/commands; retention: as its device';

create table one_time_keys (
  user_id text collate "C" not null,
  device_id text collate "C" not null,
  algorithm text collate "C" not null,
  key_id text collate "C" not null,
  place bigint generated always as identity, -- they are given out in this order
  key text not null,                       -- JSON of the key
  key_hash bytea not null,                 -- SHA-256 of algorithm, id and key, its first 16 bytes
  primary key (user_id, device_id, algorithm, key_id)
);
create index one_time_keys_next on one_time_keys (user_id, device_id, algorithm, place);
comment on table one_time_keys is 'owner: functions/main/commands; retention: until claimed, at most as its device';

-- What was given out. A client that never saw the answer to an upload sends its keys again: these are not taken twice.
create table claimed_keys (
  user_id text collate "C" not null,
  device_id text collate "C" not null,
  key_hash bytea not null,
  claimed_ts bigint not null,
  primary key (user_id, device_id, key_hash)
);
comment on table claimed_keys is 'owner: functions/main/persist; retention: a day, and then until the device uploads keys without it; at most as its device';

create table fallback_keys (
  user_id text collate "C" not null,
  device_id text collate "C" not null,
  algorithm text collate "C" not null,
  key_id text collate "C" not null,
  key text not null,                       -- JSON of the key
  used boolean not null default false,
  primary key (user_id, device_id, algorithm)
);
comment on table fallback_keys is 'owner: functions/main/commands; retention: until replaced, at most as its device';

create table cross_signing_keys (
  user_id text collate "C" not null,
  usage text collate "C" not null,         -- master | self_signing | user_signing
  public_key text collate "C" not null,    -- unpadded base64
  key text not null,                       -- JSON as uploaded, with the user's own signatures alone
  primary key (user_id, usage)
);
comment on table cross_signing_keys is 'owner: functions/main/commands; retention: until replaced, at most as its user';

-- Signatures that were uploaded apart from the key that they are on.
create table key_signatures (
  user_id text collate "C" not null,       -- whose key is signed
  key_id text collate "C" not null,        -- which: a device's id, or a public key
  signer text collate "C" not null,        -- the user who signed
  signing_key text collate "C" not null,   -- with which key: `ed25519:` and a device's id or a public key
  signature text not null,
  primary key (user_id, key_id, signer, signing_key)
);
create index key_signatures_signer on key_signatures (signer, signing_key);
comment on table key_signatures is 'owner: functions/main/commands; retention: as the key that is signed and the key that signs';

-- Stream device_lists: where the keys of a user's devices, or their cross-signing keys, last changed. With a viewer, the
-- change is for that user's eyes alone.
create table device_list_changes (
  user_id text collate "C" not null,
  viewer text collate "C" not null default '',
  position bigint not null,
  primary key (user_id, viewer)
);
create unique index device_list_changes_stream on device_list_changes (position);
comment on table device_list_changes is 'owner: functions/main/persist; retention: the latest a user and viewer';

-- Stream key_counts: where a device's one-time keys, or the use of its fallback keys, last changed.
create table key_count_changes (
  user_id text collate "C" not null,
  device_id text collate "C" not null,
  position bigint not null,
  primary key (user_id, device_id)
);
create unique index key_count_changes_stream on key_count_changes (position);
comment on table key_count_changes is 'owner: functions/main/persist; retention: as its device';

-- The part of a commit that is about keys: sent in the transaction of its commit_batch, after it, so the order of commits is
-- settled. Returns the positions of streams device_lists and key_counts after it. Raises GN002 where a key that is to be
-- given out is not there any more: then nothing of the commit holds.
create function commit_keys(p_writer text, p_lists bigint, p_counts bigint, p_rest jsonb)
returns bigint[] language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
  after_lists bigint;
  after_counts bigint;
  given integer;
begin
  update streams set position = position + p_lists where name = 'device_lists' returning position into after_lists;
  update streams set position = position + p_counts where name = 'key_counts' returning position into after_counts;
  -- For a writer that loses its connection before the answer; commit_batch has set the others.
  update committers set positions[5] = after_lists, positions[6] = after_counts where name = p_writer;
  if p_rest ? 'device_lists' then
    insert into device_list_changes (user_id, viewer, position)
      select user_id, viewer, after_lists - p_lists + at
      from jsonb_to_recordset(p_rest->'device_lists') as x(user_id text, viewer text, at integer)
      on conflict (user_id, viewer) do update set position = excluded.position;
  end if;
  if p_rest ? 'key_counts' then
    insert into key_count_changes (user_id, device_id, position)
      select user_id, device_id, after_counts - p_counts + at
      from jsonb_to_recordset(p_rest->'key_counts') as x(user_id text, device_id text, at integer)
      on conflict (user_id, device_id) do update set position = excluded.position;
  end if;
  if p_rest ? 'claims' then
    with gone as (
      delete from one_time_keys k
      using jsonb_to_recordset(p_rest->'claims')
        as x(user_id text, device_id text, algorithm text, key_id text)
      where k.user_id = x.user_id collate "C" and k.device_id = x.device_id collate "C"
        and k.algorithm = x.algorithm collate "C" and k.key_id = x.key_id collate "C"
      returning k.user_id, k.device_id, k.key_hash
    )
    insert into claimed_keys (user_id, device_id, key_hash, claimed_ts)
      select user_id, device_id, key_hash, (p_rest->>'now')::bigint from gone;
    get diagnostics given = row_count;
    if given <> jsonb_array_length(p_rest->'claims') then
      raise exception 'a one-time key was given out before' using errcode = 'GN002';
    end if;
  end if;
  return array[after_lists, after_counts];
end $$;
