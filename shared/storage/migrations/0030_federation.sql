-- Keys by which other servers sign.
create table server_keys (
  server_name text collate "C" not null,
  key_id text collate "C" not null,          -- ed25519:…
  public_key text collate "C" not null,      -- unpadded base64
  valid_until_ts bigint not null,            -- so long it counts without asking again
  expired_ts bigint,                         -- from then on it signs nothing any more; null: it still does
  primary key (server_name, key_id)
);
comment on table server_keys is 'owner: functions/main/commands/federation; retention: forever (old events are checked by old keys)';
-- What a server published last, with its signatures, for those who ask this server as a notary.
create table server_key_documents (
  server_name text collate "C" primary key,
  document text not null,
  valid_until_ts bigint not null,
  fetched_ts bigint not null
);
comment on table server_key_documents is 'owner: functions/main/commands/federation; retention: until the server publishes another';

-- The server of a user.
create function server_of(user_id text) returns text language sql immutable strict parallel safe
  return substring(user_id from position(':' in user_id) + 1) collate "C";
create index memberships_servers on memberships (room_nid, server_of(user_id)) where membership = 'join';
