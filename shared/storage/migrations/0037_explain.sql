-- When this server stored an event, by the database's clock; null: before this migration.
alter table events add column stored_ts bigint;
alter table events alter column stored_ts set default (extract(epoch from clock_timestamp()) * 1000)::bigint;
