-- What a user of this server was told of a room that it is not in, with an invitation or in answer to a knock.
create table stripped_states (
  room_nid bigint not null,
  user_id text collate "C" not null,
  events text not null,                      -- JSON array of stripped state events
  primary key (room_nid, user_id)
);
comment on table stripped_states is 'owner: functions/main/federation; retention: until the user joins, or is neither invited nor knocking any more';
