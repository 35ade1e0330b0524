-- The record of everything. Conventions:
--  * text columns are COLLATE "C": order and uniqueness do not depend on the database's locale;
--  * *_nid are compact surrogates handed out in blocks from sequence `nids`; they carry no order;
--  * times (*_ts) are milliseconds since the epoch; positions are places in the stream the table belongs to;
--  * text that may come from a Matrix string goes through pgText() (a Matrix string may hold U+0000); JSON is kept as text;
--  * every table's comment names the module that writes it and how long rows stay.

create sequence nids increment by 1024;

create table streams (
  name text collate "C" primary key,
  position bigint not null default 0
) with (fillfactor = 10);
comment on table streams is 'owner: functions/main/persist; retention: one row a stream, forever';
insert into streams (name) values ('events'), ('receipts'), ('account_data'), ('presence'), ('invalidations');

-- ── rooms ────────────────────────────────────────────────────────────────────────────────────────────────────────
create table rooms (
  room_nid bigint primary key,
  room_id text collate "C" not null unique,
  room_version text collate "C" not null,
  creator text collate "C" not null,
  created_ts bigint not null,
  published boolean not null default false
);
create index rooms_published on rooms (room_nid) where published;
comment on table rooms is 'owner: functions/main/persist; retention: until the room is purged';

-- What changes with every event of a room; HOT updates only (no index but the key).
create table room_heads (
  room_nid bigint primary key references rooms,
  forward_extremities bigint[] not null,
  state_root bigint not null,
  depth bigint not null
) with (fillfactor = 50);
comment on table room_heads is 'owner: functions/main/persist; retention: as its room';

create table events (
  event_nid bigint primary key,
  event_id text collate "C" not null unique,
  room_nid bigint not null,
  position bigint,               -- in stream events; null while the event is an outlier, rejected or soft-failed
  depth bigint not null,
  type text collate "C" not null,
  state_key text collate "C",
  sender text collate "C" not null,
  origin_server_ts bigint not null,
  content text not null,         -- JSON of `content`, ready for clients
  envelope text not null,        -- JSON of the PDU without `content`
  state_root bigint not null,    -- the room's state after this event
  replaces_nid bigint,           -- the state event that this one replaced
  redacts text collate "C",
  redacted_by_nid bigint,
  relates_to text collate "C",   -- m.relates_to.event_id
  rel_type text collate "C",
  thread_root text collate "C",  -- event id of the thread's root, where the event is in a thread
  push smallint not null default 0, -- default ruleset's outcome: 1 notify, 2 highlight
  flags smallint not null default 0, -- 1 rejected, 2 soft-failed, 4 outlier
  device_id text collate "C",    -- the device and transaction id of a local send
  txn_id text collate "C"
);
create unique index events_timeline on events (room_nid, position) where position is not null;
create index events_stream on events (position) where position is not null;
create index events_state on events (room_nid, type, state_key, position) where state_key is not null;
create index events_state_timeline on events (room_nid, position) where state_key is not null and position is not null;
create index events_relations on events (relates_to, rel_type, position) where relates_to is not null;
create index events_threads on events (thread_root, position) where thread_root is not null;
create index events_notify on events (room_nid, position) where push <> 0;
create index events_own on events (sender, room_nid, position) where device_id is not null;
comment on table events is 'owner: functions/main/persist; retention: until purged by room or retention policy';

-- Chain cover of the auth DAG: an event reaches (chain, s) for all s <= its own sequence in that chain, and what its links reach.
create table auth_chains (
  event_nid bigint primary key,
  chain_id bigint not null,
  sequence integer not null,
  unique (chain_id, sequence)
);
comment on table auth_chains is 'owner: functions/main/rooms; retention: as its event';
create table auth_chain_links (
  from_chain bigint not null, from_sequence integer not null,
  to_chain bigint not null, to_sequence integer not null,
  primary key (from_chain, from_sequence, to_chain, to_sequence)
);
comment on table auth_chain_links is 'owner: functions/main/rooms; retention: as its event';

-- ── state as a persistent tree ───────────────────────────────────────────────────────────────────────────────────
create table state_keys (
  key_nid bigint primary key,
  type text collate "C" not null,
  state_key text collate "C" not null,
  unique (type, state_key)
);
comment on table state_keys is 'owner: functions/main/persist; retention: forever (interned)';
create table state_nodes (
  node_id bytea primary key,     -- first 16 bytes of SHA-256 of body
  body bytea not null
);
comment on table state_nodes is 'owner: functions/main/persist; retention: until no root reaches it';
-- A root: a tree of key_nid -> event_nid, and the few changes made since that tree was written.
create table state_roots (
  root_id bigint primary key,
  room_nid bigint not null,
  node_id bytea,
  delta bytea not null
);
comment on table state_roots is 'owner: functions/main/persist; retention: until no event refers to it';

create table current_state (
  room_nid bigint not null,
  type text collate "C" not null,
  state_key text collate "C" not null,
  event_nid bigint not null,
  primary key (room_nid, type, state_key)
);
comment on table current_state is 'owner: functions/main/persist; retention: as its room';

create table memberships (
  user_id text collate "C" not null,
  room_nid bigint not null,
  membership text collate "C" not null,  -- join | invite | knock | leave | ban
  event_nid bigint not null,
  position bigint not null,              -- of that event in stream events
  sender text collate "C" not null,
  display_name text,
  avatar_url text,
  local boolean not null,
  forgotten boolean not null default false,
  primary key (user_id, room_nid)
);
create index memberships_room on memberships (room_nid, membership);
comment on table memberships is 'owner: functions/main/persist; retention: as its room';

-- Every change of a local user's membership, in the order of stream events: what a sync between two tokens has to look at.
create table membership_changes (
  user_id text collate "C" not null,
  position bigint not null,
  room_nid bigint not null,
  event_nid bigint not null,
  membership text collate "C" not null,
  prev_membership text collate "C",
  primary key (user_id, position)
);
comment on table membership_changes is 'owner: functions/main/persist; retention: as its room';

create table room_summaries (
  room_nid bigint primary key,
  joined_members integer not null default 0,
  invited_members integer not null default 0,
  name text, topic text, canonical_alias text collate "C", avatar_url text,
  join_rule text collate "C", history_visibility text collate "C", guest_access text collate "C",
  room_type text collate "C", encryption text collate "C"
) with (fillfactor = 50);
comment on table room_summaries is 'owner: functions/main/persist; retention: as its room';

create table room_aliases (
  alias text collate "C" primary key,
  room_nid bigint not null,
  creator text collate "C" not null
);
create index room_aliases_room on room_aliases (room_nid);
comment on table room_aliases is 'owner: functions/main/commands; retention: until deleted';

-- Threads, for GET /threads: one row a thread root.
create table threads (
  root_event_id text collate "C" not null,  -- as the replies name it: it may be of another room, or of none
  room_nid bigint not null,
  latest_nid bigint not null,
  latest_position bigint not null,
  replies integer not null,
  primary key (root_event_id, room_nid)
);
create index threads_room on threads (room_nid, latest_position);
comment on table threads is 'owner: functions/main/persist; retention: as its room';

-- ── push: outcomes that differ from the default ruleset's ────────────────────────────────────────────────────────
create table push_classes (
  class_id integer generated always as identity primary key,
  ruleset text not null,                  -- canonical JSON of a user-independent ruleset
  ruleset_hash bytea not null unique
);
comment on table push_classes is 'owner: functions/main/commands; retention: while a user has it';
-- The defaults are code, not data.
insert into push_classes (class_id, ruleset, ruleset_hash) overriding system value values (0, '', '');
create table push_rules (
  user_id text collate "C" primary key,
  rules text not null,                    -- JSON of the user's whole `global` ruleset
  class_id integer not null references push_classes
);
create index push_rules_class on push_rules (class_id);
comment on table push_rules is 'owner: functions/main/commands; retention: as its user';
-- For one event, what a user or a class of users gets in place of events.push.
create table push_deviations (
  room_nid bigint not null,
  position bigint not null,
  user_id text collate "C" not null default '',  -- '' : the whole class
  class_id integer not null default 0,
  push smallint not null,
  primary key (room_nid, position, user_id, class_id)
);
comment on table push_deviations is 'owner: functions/main/persist; retention: 90 days, pruned by functions/main';

-- ── receipts, account data, presence ─────────────────────────────────────────────────────────────────────────────
create table receipts (
  room_nid bigint not null,
  user_id text collate "C" not null,
  receipt_type text collate "C" not null,   -- m.read | m.read.private
  thread_id text collate "C" not null,      -- '' unthreaded, 'main', or a thread root's event id
  event_id text collate "C" not null,
  event_position bigint not null,
  ts bigint not null,
  position bigint not null,
  primary key (user_id, room_nid, receipt_type, thread_id)
);
create index receipts_room on receipts (room_nid, position);
comment on table receipts is 'owner: functions/main/persist; retention: latest a user, room, type and thread';

create table account_data (
  user_id text collate "C" not null,
  room_nid bigint not null default 0,       -- 0: global
  type text collate "C" not null,
  content text not null,
  position bigint not null,
  primary key (user_id, room_nid, type)
);
create index account_data_position on account_data (user_id, position);
create index account_data_ignored on account_data (user_id) where type = 'm.ignored_user_list';
comment on table account_data is 'owner: functions/main/persist; retention: as its user';

create table presence (
  user_id text collate "C" primary key,
  state text collate "C" not null,
  status_msg text,
  last_active_ts bigint not null
);
comment on table presence is 'owner: functions/main/ephemeral; retention: as its user, written coalesced';

create table filters (
  user_id text collate "C" not null,
  filter_id bigint not null,
  filter text not null,
  filter_hash bytea not null,
  primary key (user_id, filter_id),
  unique (user_id, filter_hash)
);
comment on table filters is 'owner: functions/main/commands; retention: as its user';

-- ── accounts ─────────────────────────────────────────────────────────────────────────────────────────────────────
create table users (
  user_id text collate "C" primary key,
  password_hash text,
  created_ts bigint not null,
  admin boolean not null default false,
  kind text collate "C" not null default 'user',   -- user | guest | support | bot
  deactivated boolean not null default false,
  erased boolean not null default false
);
comment on table users is 'owner: functions/main/commands; retention: forever (a user id is never reused)';
create table profiles (
  user_id text collate "C" primary key,
  display_name text,
  avatar_url text,
  fields text not null default '{}'         -- JSON object of all further fields
);
comment on table profiles is 'owner: functions/main/commands; retention: as its user';
create table devices (
  user_id text collate "C" not null,
  device_id text collate "C" not null,
  display_name text,
  created_ts bigint not null,
  last_seen_ts bigint,
  last_seen_ip text collate "C",
  last_seen_agent text,
  primary key (user_id, device_id)
);
comment on table devices is 'owner: functions/main/commands; retention: until logged out';
create table access_tokens (
  token_hash bytea primary key,
  user_id text collate "C" not null,
  device_id text collate "C" not null,
  expires_ts bigint,
  supersedes boolean not null default false -- from a refresh and not used yet: its first use ends the pair before it
);
create index access_tokens_device on access_tokens (user_id, device_id);
comment on table access_tokens is 'owner: functions/main/commands; retention: until logged out, refreshed or a day past expiry';
create table refresh_tokens (
  token_hash bytea primary key,
  user_id text collate "C" not null,
  device_id text collate "C" not null,
  expires_ts bigint,
  successor_hash bytea            -- set when used: the next refresh token; the old pair dies when the new one is first used
);
create index refresh_tokens_device on refresh_tokens (user_id, device_id);
comment on table refresh_tokens is 'owner: functions/main/commands; retention: until logged out or its successor is used';
create table uia_sessions (
  session_id text collate "C" primary key,
  operation text collate "C" not null,
  user_id text collate "C" not null default '',
  completed text not null default '[]',      -- JSON array of stage types done
  request text not null default '{}',        -- JSON of the first request's body, without secrets
  created_ts bigint not null
);
comment on table uia_sessions is 'owner: functions/main/commands; retention: one day, pruned by functions/main';
create table login_tokens (
  token_hash bytea primary key,
  user_id text collate "C" not null,
  expires_ts bigint not null
);
comment on table login_tokens is 'owner: functions/main/commands; retention: until used or expired';

-- ── idempotency ──────────────────────────────────────────────────────────────────────────────────────────────────
create table idempotency (
  scope text collate "C" not null,           -- user and device, or the handler
  key text collate "C" not null,             -- the request's key within it
  response text not null,                    -- JSON of the command's response
  created_ts bigint not null,
  primary key (scope, key)
);
create index idempotency_created on idempotency (created_ts);
comment on table idempotency is 'owner: functions/main/persist; retention: one day, pruned by functions/main';
