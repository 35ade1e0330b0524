-- Which main process writes what. A main lives as long as it renews its lease; its shards are taken over whole, after its
-- row in `committers` is gone: a commit of its own, however late it arrives, then fails.

create table mains (
  id text collate "C" primary key,                -- also its name in `committers`
  url text collate "C" not null,                  -- where it takes commands; empty: nowhere, all is in one process
  standby boolean not null,                       -- takes shards only while nobody else lives who is not a standby
  alone boolean not null,                         -- all in one process, without Redis: holds every shard until it is replaced
  expires_at timestamptz not null                 -- by this database's clock; 'infinity' for who is alone
) with (fillfactor = 10);
comment on table mains is 'owner: functions/main/shards; retention: while the process lives, and until its shards are taken over';

-- Rooms and users by the hash of their id. `epoch` counts the changes of owner.
create table shards (
  shard smallint primary key,
  owner text collate "C",                         -- mains.id; null: free
  epoch bigint not null default 0
) with (fillfactor = 25);
comment on table shards is 'owner: functions/main/shards; retention: one row a shard, forever';
insert into shards (shard) select generate_series(0, 63);

-- Deactivated users who have not left all their rooms yet: the commit that ends the account puts them here.
create table departures (
  user_id text collate "C" primary key,
  created_ts bigint not null
);
comment on table departures is 'owner: functions/main/commands; retention: until the user has left all rooms';
