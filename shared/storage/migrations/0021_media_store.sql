-- Whose the store of media is. The store holds a marker that names this installation, and a word that changes every few minutes:
-- one that this database does not know was written by another copy of it, or after the backup that it was made from.
create table media_store (
  only_row boolean primary key default true check (only_row),
  installation_id uuid not null default gen_random_uuid(),
  token uuid not null default gen_random_uuid(),   -- the word in the marker
  next_token uuid,                                 -- while it is being written: the marker has either
  kept_before_ts bigint                            -- objects of before that no row tells of are not deleted
);
insert into media_store default values;
comment on table media_store is 'owner: functions/main/media; retention: one row, for ever';
