-- Delayed events (MSC4140), suspended and locked accounts, registration tokens.

create table delayed_events (
  delay_id text collate "C" primary key,
  place bigint generated always as identity, -- of those that are due at the same time, the first that was scheduled
  shard smallint not null,                 -- of its user: whose owner has the timer
  user_id text collate "C" not null,
  device_id text collate "C",
  room_id text collate "C" not null,
  type text collate "C" not null,
  state_key text collate "C",
  content text not null,                   -- JSON of `content`, ready for clients
  delay_ms bigint not null,
  scheduled_ts bigint not null,            -- or restarted last
  send_ts bigint not null,                 -- when it is due
  finalised_ts bigint,                     -- sent, cancelled or refused; null: it is scheduled
  event_id text collate "C",               -- of the event that it became
  error text                               -- JSON of the error that it was refused with
);
create index delayed_events_due on delayed_events (send_ts, place) where finalised_ts is null;
create index delayed_events_user on delayed_events (user_id, finalised_ts);
create index delayed_events_state on delayed_events (room_id, type, state_key)
  where finalised_ts is null and state_key is not null;
create index delayed_events_finalised on delayed_events (finalised_ts) where finalised_ts is not null;
comment on table delayed_events is 'owner: functions/main/commands/delayed-events; retention: until sent or cancelled, and seven days after that, of a user the latest hundred';

-- The event's sender is told which delayed event it was.
alter table events add column delay_id text collate "C";

-- Each of these fails, and with it the commit that it is part of, where the event is not scheduled any more: of all that
-- may become of a delayed event, one thing does, once.

-- It became an event, or was refused or cancelled. `p_due`: only if it was due then; null: whenever.
create function finalise_delayed_event(p_delay_id text, p_now bigint, p_due bigint, p_event_id text, p_error text)
returns void language plpgsql as $$
begin
  update delayed_events set finalised_ts = p_now, event_id = p_event_id, error = p_error
    where delay_id = p_delay_id and finalised_ts is null and (p_due is null or send_ts <= p_due);
  if not found then raise exception 'not scheduled: %', p_delay_id using errcode = 'GN003'; end if;
end $$;

create function restart_delayed_event(p_delay_id text, p_now bigint) returns void language plpgsql as $$
begin
  update delayed_events set scheduled_ts = p_now, send_ts = p_now + delay_ms
    where delay_id = p_delay_id and finalised_ts is null;
  if not found then raise exception 'not scheduled: %', p_delay_id using errcode = 'GN003'; end if;
end $$;

-- Who set the state that a delayed event of somebody else was to set cancels that one, in the commit of the change, however
-- the change came about.
create function cancel_overtaken_delayed_events() returns trigger language plpgsql as $$
begin
  if exists (select from delayed_events where finalised_ts is null and state_key is not null) then
    update delayed_events d set finalised_ts = (extract(epoch from clock_timestamp()) * 1000)::bigint
      from changed c join rooms r on r.room_nid = c.room_nid join events e on e.event_nid = c.event_nid
      where d.room_id = r.room_id and d.type = c.type and d.state_key = c.state_key and d.finalised_ts is null
        and d.user_id <> e.sender;
  end if;
  return null;
end $$;
create trigger state_inserted after insert on current_state referencing new table as changed
  for each statement execute function cancel_overtaken_delayed_events();
create trigger state_updated after update on current_state referencing new table as changed
  for each statement execute function cancel_overtaken_delayed_events();

-- A locked account can be used for nothing; a suspended one can read, and leave.
alter table users
  add column locked boolean not null default false,
  add column suspended boolean not null default false;

create table registration_tokens (
  token text collate "C" primary key,      -- administrators read and hand it out
  uses_allowed bigint,                     -- null: any number
  completed bigint not null default 0,     -- accounts made with it
  expiry_ts bigint,                        -- null: never
  created_ts bigint not null
);
comment on table registration_tokens is 'owner: functions/main/commands/accounts; retention: until an administrator deletes it';

-- Registrations under way that have shown a token: each holds one of its uses.
create table registration_token_holds (
  session_id text collate "C" primary key, -- of interactive authentication
  token text collate "C" not null references registration_tokens on delete cascade,
  expires_ts bigint not null
);
create index registration_token_holds_token on registration_token_holds (token, expires_ts);
comment on table registration_token_holds is 'owner: functions/main/commands/accounts; retention: until the account is made or the session over, then pruned by functions/main';

-- Takes one use for the session; fails where there is none.
create function hold_registration_token(p_token text, p_session_id text, p_now bigint, p_expires bigint)
returns void language plpgsql as $$
declare
  held registration_tokens;
begin
  select * into held from registration_tokens where token = p_token for update;
  if held.token is null or held.expiry_ts <= p_now or held.completed + (select count(*) from registration_token_holds
      where token = p_token and expires_ts > p_now and session_id <> p_session_id) >= held.uses_allowed then
    raise exception 'the registration token is not valid' using errcode = 'GN004';
  end if;
  insert into registration_token_holds (session_id, token, expires_ts) values (p_session_id, p_token, p_expires)
    on conflict (session_id) do update set token = excluded.token, expires_ts = excluded.expires_ts;
end $$;

-- The session's use is used up; fails where the session holds none, or held it too long ago.
create function complete_registration_token(p_session_id text, p_now bigint) returns void language plpgsql as $$
declare
  used text;
begin
  delete from registration_token_holds where session_id = p_session_id and expires_ts > p_now returning token into used;
  if used is null then raise exception 'the session holds no registration token' using errcode = 'GN004'; end if;
  update registration_tokens set completed = completed + 1 where token = used;
end $$;
