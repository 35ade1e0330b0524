-- Which main process writes what. A main lives as long as it renews its lease; its shards are taken over whole, after its
-- row in `committers` is gone: a commit of its own, however late it arrives, then fails.

create table mains (
  id text collate "C" primary key,                -- also its name in `committers`
  url text collate "C" not null,                  -- where it takes commands; empty: nowhere, all is in one process
  standby boolean not null,                       -- takes shards only while nobody else lives who is not a standby
  leaving boolean not null default false,         -- gives its shards away and takes none, since it ends
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

-- What changes who owns what runs in turn, under one lock. Each function is one round trip and all or nothing.
create function lock_shards() returns void language sql as $$ select pg_advisory_xact_lock(7263410002) $$;

-- Ends the connections that these writers commit on: one that hangs in the middle of a commit holds the streams' locks.
create function end_committers(p_names text[]) returns void language sql as $$
  select pg_terminate_backend(a.pid) from committers c
    join pg_stat_activity a on a.pid = c.backend_pid and a.backend_start = c.backend_start
    where c.name = any(p_names)
$$;

-- A process of an earlier version, or one without Redis, takes itself for the only writer, under the name `main`. It is
-- refused while others live, who would not hear of what it writes.
create function refuse_lone_writer() returns trigger language plpgsql as $$
begin
  if exists (select from mains where not alone and expires_at > clock_timestamp()) then
    raise exception 'main processes that share their work through Redis write this database: stop them first, or set redis.url here too'
      using errcode = 'GN002';
  end if;
  return new;
end $$;
create trigger lone_writer_inserted before insert on committers for each row
  when (new.name = 'main' and new.owner <> '') execute function refuse_lone_writer();
create trigger lone_writer_replaced before update on committers for each row
  when (new.name = 'main' and new.owner <> '' and new.owner <> old.owner) execute function refuse_lone_writer();

-- This process is the only writer from now on; whoever was it before can't commit any more.
create function claim_alone(p_owner text) returns void language plpgsql as $$
begin
  perform lock_shards();
  if exists (select from mains where not alone and expires_at > clock_timestamp()) then
    raise exception 'main processes that share their work through Redis write this database: stop them first, or set redis.url here too'
      using errcode = 'GN002';
  end if;
  perform end_committers((select array_agg(id) from mains where not alone) || array['main']);
  delete from committers where name in (select id from mains where not alone);
  insert into committers as c (name, owner, backend_pid, backend_start) values ('main', p_owner, 0, clock_timestamp())
    on conflict (name) do update set epoch = c.epoch + 1, owner = excluded.owner, backend_pid = 0;
  delete from mains where not alone;
  insert into mains (id, url, standby, alone, expires_at) values ('main', '', false, true, 'infinity')
    on conflict (id) do nothing;
  update shards set owner = 'main', epoch = epoch + 1 where owner is distinct from 'main';
end $$;

-- The only writer ends in good order: unless another has replaced it, nobody owns anything.
create function leave_alone(p_owner text) returns void language plpgsql as $$
begin
  perform lock_shards();
  if exists (select from committers where name = 'main' and owner = p_owner) then
    delete from mains where alone;
    update shards set owner = null, epoch = epoch + 1 where owner = 'main';
  end if;
end $$;

-- One of several writers. Who was alone before can't commit any more.
create function join_mains(p_id text, p_owner text, p_url text, p_standby boolean, p_ttl_ms integer) returns void
language plpgsql as $$
begin
  perform lock_shards();
  perform end_committers(array['main']);
  update committers set epoch = epoch + 1, owner = '', backend_pid = 0 where name = 'main' and owner <> '';
  delete from mains where alone;
  update shards set owner = null, epoch = epoch + 1 where owner is not null and owner not in (select id from mains);
  insert into committers (name, owner, backend_pid, backend_start) values (p_id, p_owner, 0, clock_timestamp());
  insert into mains (id, url, standby, alone, expires_at)
    values (p_id, p_url, p_standby, false, clock_timestamp() + p_ttl_ms * interval '1 ms');
end $$;

-- Renews the lease; null where it was taken over. Says who lives and who owns what.
create function renew_main(p_id text, p_ttl_ms integer) returns text language plpgsql as $$
declare
  seen text;
begin
  update mains set expires_at = clock_timestamp() + p_ttl_ms * interval '1 ms' where id = p_id;
  if not found then return null; end if;
  select json_build_object(
      'mains', (select json_agg(json_build_object('id', id, 'standby', standby, 'leaving', leaving,
          'left_ms', (extract(epoch from expires_at - clock_timestamp()) * 1000)::bigint)) from mains where not alone),
      'shards', (select json_agg(json_build_array(shard, owner, epoch) order by shard) from shards))::text
    into seen;
  return seen;
end $$;

-- Fences a main whose lease is over and takes its shards; null where it lives, or another was quicker. Waits for a commit
-- under way.
create function take_over_main(p_by text, p_id text) returns integer[] language plpgsql as $$
declare
  taken integer[];
begin
  perform lock_shards();
  if not exists (select from mains where id = p_by and expires_at > clock_timestamp()) then return null; end if;
  delete from mains where id = p_id and not alone and expires_at <= clock_timestamp();
  if not found then return null; end if;
  perform end_committers(array[p_id]);
  delete from committers where name = p_id;
  with moved as (
    update shards set owner = p_by, epoch = epoch + 1 where owner = p_id returning shard
  ) select coalesce(array_agg(shard), '{}') into taken from moved;
  return taken;
end $$;

-- Takes up to so many free shards.
create function claim_shards(p_by text, p_count integer) returns integer[] language plpgsql as $$
declare
  taken integer[];
begin
  perform lock_shards();
  if not exists (select from mains where id = p_by and expires_at > clock_timestamp()) then return '{}'; end if;
  with moved as (
    update shards set owner = p_by, epoch = epoch + 1
      where shard in (select shard from shards where owner is null order by shard limit p_count) returning shard
  ) select coalesce(array_agg(shard), '{}') into taken from moved;
  return taken;
end $$;

-- Gives shards to others; what would go to a main that does not live is free.
create function hand_over_shards(p_by text, p_shards integer[], p_to text[]) returns void language plpgsql as $$
begin
  perform lock_shards();
  update shards s set epoch = epoch + 1,
      owner = (select m.id from mains m where m.id = x.owner and not m.leaving and m.expires_at > clock_timestamp())
    from unnest(p_shards, p_to) as x(shard, owner) where s.shard = x.shard and s.owner = p_by;
end $$;

-- Ends in good order. What it still owns is free, and its commits are over.
create function leave_mains(p_id text) returns void language plpgsql as $$
begin
  perform lock_shards();
  delete from mains where id = p_id;
  perform end_committers(array[p_id]);
  delete from committers where name = p_id;
  update shards set owner = null, epoch = epoch + 1 where owner = p_id;
end $$;
