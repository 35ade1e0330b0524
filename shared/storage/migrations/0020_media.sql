-- The content repository. Bytes are objects in a store outside of the database; an object's name is never used twice, so whoever
-- deletes one cannot hit what somebody else has just stored. The same bytes are kept once: of objects with one hash, one counts.
--
-- An object is reserved before its first byte is written, and counts as stored when its last one is. Its row goes when its bytes
-- are gone. So whatever ends in the middle, there is a row for all bytes, and functions/main/media deletes what is left over.
--
-- What changes these tables are the functions below, one at a time: each decides by what the ones before it left behind.

create table media_objects (
  object_key text collate "C" primary key,
  sha256 text collate "C",               -- hexadecimal; null: reserved
  size bigint not null,                  -- of a reserved one, the most it may become
  reserved_until bigint,                 -- of a reserved one: who writes it says again and again that it lives
  doomed_ts bigint                       -- nothing refers to it any more: bytes and row are to be deleted
);
create unique index media_objects_sha256 on media_objects (sha256) where doomed_ts is null;
create index media_objects_reserved on media_objects (reserved_until) where sha256 is null and doomed_ts is null;
create index media_objects_doomed on media_objects (doomed_ts) where doomed_ts is not null;
comment on table media_objects is 'owner: functions/main/media; retention: while media or thumbnails refer to it; reserved, a minute after its writer was last heard of';

create table media (
  origin text collate "C" not null,      -- the server of the mxc:// URI
  media_id text collate "C" not null,
  kind text collate "C" not null,        -- upload, preview (a picture of a URL preview), remote
  user_id text collate "C",              -- who uploaded it
  object_key text collate "C" references media_objects,   -- null: its URI was made ahead, and waits for the upload
  upload_key text collate "C",           -- the reservation by which it was completed; another object may have had its bytes
  sha256 text collate "C",
  size bigint,
  content_type text,
  upload_name text,
  created_ts bigint not null,
  last_access_ts bigint not null,        -- roughly: noted at most once an hour
  expires_ts bigint,                     -- of one that waits for its upload
  authenticated boolean not null,        -- not for the old endpoints, which ask for no access token
  quarantined_by text collate "C",
  protected boolean not null default false,   -- neither quarantined nor dropped by retention
  primary key (origin, media_id)
);
create index media_object_key on media (object_key);
create index media_user_id on media (user_id, created_ts) where user_id is not null;
create index media_expires on media (expires_ts) where object_key is null;
create index media_access on media (kind, last_access_ts) where object_key is not null;
create index media_sha256 on media (sha256);
comment on table media is 'owner: functions/main/media; retention: until deleted; where configured, until nobody has fetched it for a while, or the disk budget needs room; unused URIs until they expire';

create table media_thumbnails (
  source_key text collate "C" not null references media_objects,
  width integer not null,
  height integer not null,
  method text collate "C" not null,
  animated boolean not null,
  object_key text collate "C" not null references media_objects,
  content_type text not null,
  size bigint not null,
  primary key (source_key, width, height, method, animated)
);
create index media_thumbnails_object_key on media_thumbnails (object_key);
comment on table media_thumbnails is 'owner: functions/main/media; retention: while the object it was made of is kept';

create table media_blocked_hashes (
  sha256 text collate "C" primary key,
  reason text,
  blocked_by text not null,
  blocked_ts bigint not null
);
comment on table media_blocked_hashes is 'owner: functions/main/media; retention: until an administrator takes it away';

create table media_drops (
  drop_id bigint generated always as identity primary key,
  dropped_ts bigint not null,
  reason text collate "C" not null,      -- budget, retention, or the administrator's user id
  origin text collate "C" not null,
  media_id text collate "C" not null,
  size bigint not null
);
create index media_drops_ts on media_drops (dropped_ts);
comment on table media_drops is 'owner: functions/main/media; retention: 90 days';

create table media_totals (
  only_row boolean primary key default true check (only_row),
  bytes bigint not null,                 -- of all objects, reserved and doomed ones too: what the store may hold
  objects bigint not null,
  compared_ts bigint not null            -- when the store was last compared with the rows
);
insert into media_totals (bytes, objects, compared_ts) values (0, 0, 0);
comment on table media_totals is 'owner: functions/main/media; retention: one row, for ever';

create function lock_media() returns void language sql as $$ select pg_advisory_xact_lock(7263410020) $$;

-- False where there is no room in the budget. Repeated, it finds its row.
create function media_reserve(p_key text, p_size bigint, p_until bigint, p_budget bigint) returns boolean
language plpgsql as $$
begin
  perform lock_media();
  if exists (select from media_objects where object_key = p_key) then return true; end if;
  if p_budget is not null and (select bytes from media_totals) + p_size > p_budget then return false; end if;
  insert into media_objects (object_key, size, reserved_until) values (p_key, p_size, p_until);
  update media_totals set bytes = bytes + p_size, objects = objects + 1;
  return true;
end $$;

-- Dooms those of the objects that nothing refers to, and their thumbnails with them.
create function media_doom_unreferenced(p_keys text[], p_now bigint) returns void language plpgsql as $$
declare
  keys text[] := p_keys;
  doomed text[];
begin
  while cardinality(keys) > 0 loop
    with gone as (
      update media_objects o set doomed_ts = p_now
      where o.object_key = any(keys) and o.doomed_ts is null
        and not exists (select from media m where m.object_key = o.object_key)
        and not exists (select from media_thumbnails t where t.object_key = o.object_key)
      returning o.object_key)
    select coalesce(array_agg(object_key), '{}') into doomed from gone;
    with thumbnails as (delete from media_thumbnails where source_key = any(doomed) returning object_key)
    select coalesce(array_agg(distinct object_key), '{}') into keys from thumbnails;
  end loop;
end $$;

-- What was reserved is stored now. The object that counts for these bytes: this one, or the one that had them already, and then
-- this one is doomed. Null where the reservation is over.
create function media_adopt(p_key text, p_sha256 text, p_size bigint, p_now bigint) returns text
language plpgsql as $$
declare
  reserved bigint;
  other text;
begin
  select size into reserved from media_objects where object_key = p_key and sha256 is null and doomed_ts is null;
  if reserved is null then return null; end if;
  select object_key into other from media_objects where sha256 = p_sha256 and doomed_ts is null;
  if other is null then
    update media_objects set sha256 = p_sha256, size = p_size, reserved_until = null where object_key = p_key;
    update media_totals set bytes = bytes + p_size - reserved;
    return p_key;
  end if;
  update media_objects set doomed_ts = p_now where object_key = p_key;
  return other;
end $$;

-- `done`; or why not, and then the object is doomed: `lost` (the reservation is over), `taken` (the medium has content),
-- `unknown` (the URI was not made ahead, or has expired), `foreign` (by another user), `blocked` (its hash), `quota`.
create function media_complete(
  p_key text, p_sha256 text, p_size bigint, p_origin text, p_media_id text, p_kind text, p_user_id text, p_ahead boolean,
  p_content_type text, p_upload_name text, p_authenticated boolean, p_now bigint, p_quota bigint, p_quota_since bigint)
returns text language plpgsql as $$
declare
  medium media%rowtype;
  target text;
  refused text;
begin
  perform lock_media();
  select * into medium from media where origin = p_origin and media_id = p_media_id;
  if medium.upload_key = p_key then return 'done'; end if;
  refused := case
    when medium.object_key is not null then 'taken'
    when p_ahead and (medium.media_id is null or medium.expires_ts <= p_now) then 'unknown'
    when p_ahead and medium.user_id is distinct from p_user_id then 'foreign'
    when exists (select from media_blocked_hashes where sha256 = p_sha256) then 'blocked'
    when p_quota is not null and p_user_id is not null and p_size + coalesce((
      select sum(size) from media where user_id = p_user_id and created_ts > p_quota_since), 0) > p_quota then 'quota'
  end;
  if refused is null then
    target := media_adopt(p_key, p_sha256, p_size, p_now);
    if target is null then refused := 'lost'; end if;
  end if;
  if refused is not null then
    update media_objects set doomed_ts = p_now where object_key = p_key and doomed_ts is null;
    return refused;
  end if;
  insert into media as m (origin, media_id, kind, user_id, object_key, upload_key, sha256, size, content_type, upload_name,
    created_ts, last_access_ts, authenticated, quarantined_by)
  values (p_origin, p_media_id, p_kind, p_user_id, target, p_key, p_sha256, p_size, p_content_type, p_upload_name,
    p_now, p_now, p_authenticated,
    -- What was taken out of sight does not come back under another name.
    (select quarantined_by from media where sha256 = p_sha256 and quarantined_by is not null limit 1))
  on conflict (origin, media_id) do update set object_key = excluded.object_key, upload_key = excluded.upload_key,
    sha256 = excluded.sha256, size = excluded.size, content_type = excluded.content_type,
    upload_name = excluded.upload_name, last_access_ts = excluded.last_access_ts, expires_ts = null,
    authenticated = excluded.authenticated, quarantined_by = excluded.quarantined_by;
  return 'done';
end $$;

-- The object of the thumbnail: this one's, or that of whoever was quicker. Null where the object it was made of is gone, or the
-- reservation is over.
create function media_complete_thumbnail(
  p_key text, p_sha256 text, p_size bigint, p_source text, p_width integer, p_height integer, p_method text,
  p_animated boolean, p_content_type text, p_now bigint)
returns text language plpgsql as $$
declare
  target text;
begin
  perform lock_media();
  select object_key into target from media_thumbnails
  where source_key = p_source and width = p_width and height = p_height and method = p_method and animated = p_animated;
  if target is null and exists (
    select from media_objects where object_key = p_source and sha256 is not null and doomed_ts is null)
  then
    target := media_adopt(p_key, p_sha256, p_size, p_now);
    if target is not null then
      insert into media_thumbnails (source_key, width, height, method, animated, object_key, content_type, size)
      values (p_source, p_width, p_height, p_method, p_animated, target, p_content_type, p_size);
    end if;
  end if;
  if target is distinct from p_key then
    update media_objects set doomed_ts = p_now where object_key = p_key and doomed_ts is null;
  end if;
  return target;
end $$;

-- Deletes media, and dooms what only they referred to. Gives what was there.
create function media_delete(p_origins text[], p_media_ids text[], p_reason text, p_now bigint)
returns table (origin text, media_id text, size bigint) language plpgsql as $$
declare
  origins text[];
  ids text[];
  sizes bigint[];
  keys text[];
begin
  perform lock_media();
  with deleted as (
    delete from media m using unnest(p_origins, p_media_ids) as named (origin, media_id)
    where m.origin = named.origin and m.media_id = named.media_id
    returning m.origin, m.media_id, coalesce(m.size, 0) as size, m.object_key)
  select array_agg(d.origin), array_agg(d.media_id), array_agg(d.size),
    coalesce(array_agg(distinct d.object_key) filter (where d.object_key is not null), '{}')
  into origins, ids, sizes, keys from deleted d;
  insert into media_drops (dropped_ts, reason, origin, media_id, size)
  select p_now, p_reason, o, i, s from unnest(origins, ids, sizes) as gone (o, i, s);
  perform media_doom_unreferenced(keys, p_now);
  return query select * from unnest(origins, ids, sizes);
end $$;

-- The bytes are gone: so are the rows.
create function media_forget(p_keys text[]) returns void language plpgsql as $$
declare
  freed bigint;
  counted bigint;
begin
  perform lock_media();
  with gone as (delete from media_objects where object_key = any(p_keys) and doomed_ts is not null returning size)
  select coalesce(sum(size), 0), count(*) into freed, counted from gone;
  update media_totals set bytes = bytes - freed, objects = objects - counted;
end $$;

-- Takes media out of sight, and whatever else has the same bytes. Gives how many; protected ones stay.
create function media_quarantine(p_origins text[], p_media_ids text[], p_by text) returns integer language plpgsql as $$
declare
  hidden integer;
begin
  perform lock_media();
  with named as (
    select m.origin, m.media_id, m.sha256 from media m
    join unnest(p_origins, p_media_ids) as n (origin, media_id) on m.origin = n.origin and m.media_id = n.media_id
    where not m.protected),
  gone as (
    update media m set quarantined_by = coalesce(m.quarantined_by, p_by)
    where not m.protected
      and ((m.origin, m.media_id) in (select n.origin, n.media_id from named n)
        or m.sha256 in (select n.sha256 from named n))
    returning 1)
  select count(*) into hidden from gone;
  return hidden;
end $$;
