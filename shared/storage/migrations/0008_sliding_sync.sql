-- The newest event of a room that counts as activity there (bump_stamp of sliding sync): one step on the index, however many
-- members came and went since. The list is that of shared/storage/sync-sliding.ts.
create index events_bump on events (room_nid, position)
  where position is not null and type in ('m.room.create', 'm.room.message', 'm.room.encrypted', 'm.sticker',
    'm.call.invite', 'm.poll.start', 'm.beacon_info');
