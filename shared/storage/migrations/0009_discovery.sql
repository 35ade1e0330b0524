-- Finding things: the index of messages, the directory of users; and what is kept for others to look into: reports,
-- tokens of OpenID.

-- How far the indexes are. Everything of stream events up to `events_position`, and of stream invalidations up to
-- `invalidations_position`, is in the index, but for what `backfill` says is still to be done of the time before: of
-- `messages` the positions up to it, newest first; of `users` the ids after it. Null: nothing. To build an index anew, set
-- `backfill` to its beginning (the present position; the empty text): what is there is found until it is replaced.
create table index_cursors (
  name text collate "C" primary key,
  events_position bigint not null,
  invalidations_position bigint not null,
  backfill text collate "C"
) with (fillfactor = 10);
comment on table index_cursors is 'owner: functions/main/discovery; retention: one row an index, forever';
insert into index_cursors (name, events_position, invalidations_position, backfill)
  select x.name, e.position, i.position,
    case when x.name = 'users' then '' when e.position > 0 then e.position::text end
  from (values ('messages'), ('users')) as x(name), streams e, streams i
  where e.name = 'events' and i.name = 'invalidations';

-- Texts of messages, room names and topics. `words` are made in the server's own way, so that the database's locale plays
-- no part; one of them, #<room_nid>, is the room, by which the index finds a word in a room at once.
create table event_search (
  event_nid bigint primary key,
  room_nid bigint not null,
  position bigint not null,        -- of the event in stream events
  kind smallint not null,          -- 1 content.body, 2 content.name, 3 content.topic
  sender text collate "C" not null,
  words tsvector not null
);
create index event_search_words on event_search using gin (words);
comment on table event_search is 'owner: functions/main/discovery; retention: as its event, until it is redacted';

-- Whom the user directory knows.
create table user_directory (
  user_id text collate "C" primary key,
  display_name text,
  avatar_url text,
  in_public boolean not null,      -- joined to a room that anybody may join or read
  words text collate "C" not null  -- each with a line feed before it
);
comment on table user_directory is 'owner: functions/main/discovery; retention: while the account lives or is in a room';
create table user_directory_words (
  word text collate "C" not null,
  user_id text collate "C" not null,
  in_public boolean not null,
  primary key (word, user_id)
);
create index user_directory_words_public on user_directory_words (word, user_id) where in_public;
create index user_directory_words_user on user_directory_words (user_id);
comment on table user_directory_words is 'owner: functions/main/discovery; retention: as its row in user_directory';

create table reports (
  report_id bigint generated always as identity primary key,
  kind text collate "C" not null,      -- event | room | user
  reporter text collate "C" not null,
  room_id text collate "C",
  event_id text collate "C",
  user_id text collate "C",            -- who is reported; of an event, its sender
  reason text,
  score integer,
  received_ts bigint not null
);
create index reports_received on reports (received_ts);
comment on table reports is 'owner: functions/main/commands; retention: until an administrator deletes them';

create table openid_tokens (
  token_hash bytea primary key,
  user_id text collate "C" not null,
  expires_ts bigint not null
);
create index openid_tokens_expiry on openid_tokens (expires_ts);
create index openid_tokens_user on openid_tokens (user_id);
comment on table openid_tokens is 'owner: functions/main/commands; retention: until they expire, pruned by functions/main';

-- The event closest to a time.
create index events_time on events (room_nid, origin_server_ts, position) where position is not null;
