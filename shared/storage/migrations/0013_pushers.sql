-- Pushers: where clients ask to be told of notifications.
create table pushers (
  user_id text collate "C" not null,
  app_id text collate "C" not null,
  pushkey text collate "C" not null,
  device_id text collate "C" not null,   -- whose access token set it; it goes with that device
  kind text collate "C" not null,        -- http
  app_display_name text not null,
  device_display_name text not null,
  profile_tag text,
  lang text not null,
  data text not null,                    -- JSON of `data`, ready for clients
  set_ts bigint not null,
  primary key (user_id, app_id, pushkey)
);
-- For those of other users with the same app and key, which a new one takes the place of.
create index pushers_app on pushers (app_id, pushkey);
comment on table pushers is 'owner: functions/main/commands/pushers.ts; retention: while the device lives, until the client takes it away';
