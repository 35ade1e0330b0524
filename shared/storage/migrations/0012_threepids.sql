-- Third-party ids of accounts, messages to them, consent to policies, and accounts that expire.

-- Email addresses and phone numbers in canonical form; one belongs to one account.
create table user_threepids (
  medium text collate "C" not null,          -- email | msisdn
  address text collate "C" not null,
  user_id text collate "C" not null,
  validated_ts bigint not null,
  added_ts bigint not null,
  primary key (medium, address)
);
create index user_threepids_user on user_threepids (user_id);
comment on table user_threepids is 'owner: functions/main/commands; retention: until taken away, or as its user';

-- Who shows to own an address. The token that is sent follows from the session's name and a key of the server, so that it is
-- nowhere in the database.
create table threepid_sessions (
  session_id text collate "C" primary key,
  purpose text collate "C" not null,         -- register | add | reset: what one was asked for opens nothing else
  medium text collate "C" not null,
  address text collate "C" not null,
  client_secret_hash bytea not null,
  send_attempt bigint not null,              -- the last one that was sent
  hollow boolean not null,                   -- no token is sent, so it is never validated: who asks is not told why
  wrong_tokens integer not null default 0,
  next_link text,
  validated_ts bigint,
  expires_ts bigint not null,
  unique (purpose, medium, address, client_secret_hash)
);
create index threepid_sessions_expiry on threepid_sessions (expires_ts);
comment on table threepid_sessions is 'owner: functions/main/commands; retention: until used or expired, pruned by functions/main';

alter table uia_sessions add column threepids text not null default '[]'; -- JSON of those that stages have proven

-- Messages by mail and SMS on their way out, with nothing in them that is secret: links get their tokens when they are sent.
create table outbox (
  message_id bigint generated always as identity primary key,
  medium text collate "C" not null,
  address text not null,
  template text collate "C" not null,
  variables text not null,                   -- JSON of what the template is filled with
  created_ts bigint not null,
  due_ts bigint not null,                    -- when it is tried next; whoever sends it has until then
  attempts integer not null default 0,
  expires_ts bigint not null                 -- of no use any more
);
create index outbox_due on outbox (due_ts);
comment on table outbox is 'owner: functions/main/outbox; retention: until sent or given up';

-- Which versions of policies a user has agreed to.
create table user_consents (
  user_id text collate "C" not null,
  policy text collate "C" not null,
  version text collate "C" not null,
  given_ts bigint not null,
  primary key (user_id, policy, version)
);
comment on table user_consents is 'owner: functions/main/commands; retention: forever (proof of what was agreed to)';
alter table users add column consent text collate "C"; -- all that the last consent was to, as shared/policies.ts names it

create table account_validity (
  user_id text collate "C" primary key,
  expires_ts bigint not null,
  send_mail boolean not null default true,   -- before it expires
  mailed_for_ts bigint                       -- the expires_ts that the last such mail was about
);
create index account_validity_expiry on account_validity (expires_ts);
comment on table account_validity is 'owner: functions/main/commands; retention: as its user';
