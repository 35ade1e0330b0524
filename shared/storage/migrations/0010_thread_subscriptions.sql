-- Threads that users follow (MSC4306).

insert into streams (name) values ('thread_subscriptions') on conflict do nothing;

create table thread_subscriptions (
  user_id text collate "C" not null,
  room_nid bigint not null,
  root_event_id text collate "C" not null,
  position bigint not null,                -- in stream thread_subscriptions
  subscribed boolean not null,
  automatic boolean not null,              -- the client subscribed by itself, because of an event of the thread
  unsubscribed_at bigint,                  -- in stream events: what came up to here subscribes nobody again
  primary key (user_id, room_nid, root_event_id)
);
create unique index thread_subscriptions_stream on thread_subscriptions (position);
create index thread_subscriptions_user on thread_subscriptions (user_id, position);
comment on table thread_subscriptions is 'owner: functions/main/persist; retention: the latest a user and thread, until the user is deactivated';

-- The part of a commit that is about subscriptions: sent in the transaction of its commit_batch, after it and after those of
-- the streams before it, so the order of commits is settled. `p_rows`: a JSON array, one row a thread and user, each with its
-- place `at` among the `p_added` positions. Returns the position of the stream after it.
create function commit_thread_subscriptions(p_writer text, p_added bigint, p_rows jsonb) returns bigint language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
  after_subscriptions bigint;
begin
  update streams set position = position + p_added where name = 'thread_subscriptions'
    returning position into after_subscriptions;
  -- For a writer that loses its connection before the answer; commit_batch has set the others.
  update committers set positions[8] = after_subscriptions where name = p_writer;
  insert into thread_subscriptions
      (user_id, room_nid, root_event_id, position, subscribed, automatic, unsubscribed_at)
    select user_id, room_nid, root_event_id, after_subscriptions - p_added + at, subscribed, automatic, unsubscribed_at
    from jsonb_to_recordset(p_rows) as x(user_id text, room_nid bigint, root_event_id text, at integer,
      subscribed boolean, automatic boolean, unsubscribed_at bigint)
    on conflict (user_id, room_nid, root_event_id) do update set position = excluded.position,
      subscribed = excluded.subscribed, automatic = excluded.automatic, unsubscribed_at = excluded.unsubscribed_at;
  return after_subscriptions;
end $$;
