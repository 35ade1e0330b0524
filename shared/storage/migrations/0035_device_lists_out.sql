-- Servers that share a room with a user of this one hear of changes to their devices and keys, whatever happens meanwhile.
-- They ask for the whole list then: an update that names none before it stands for all.
create function servers_sharing(p_user text) returns setof text language sql stable as $$
  select distinct s.server_name from memberships m join room_servers s on s.room_nid = m.room_nid and s.until is null
  where m.user_id = p_user and m.membership = 'join'
$$;

create function device_list_changed() returns trigger language plpgsql as $$
begin
  if exists (select from users where user_id = new.user_id) then
    insert into outbound_edus (server_name, edu_type, content)
      select server_name, 'm.device_list_update', json_build_object('user_id', new.user_id, 'stream_id', new.position,
        'prev_id', '[]'::json, 'device_id', coalesce((select device_id from devices where user_id = new.user_id
          order by created_ts desc limit 1), ''))::text
      from servers_sharing(new.user_id) as server_name;
  end if;
  return null;
end $$;
create trigger device_list_changed after insert or update on device_list_changes
  for each row when (new.viewer = '') execute function device_list_changed();

create function cross_signing_key_changed() returns trigger language plpgsql as $$
begin
  insert into outbound_edus (server_name, edu_type, content)
    select server_name, 'm.signing_key_update',
      '{"user_id":' || to_json(new.user_id)::text || ',"' || new.usage || '_key":' || new.key || '}'
    from servers_sharing(new.user_id) as server_name;
  return null;
end $$;
create trigger cross_signing_key_changed after insert or update on cross_signing_keys
  for each row when (new.usage in ('master', 'self_signing')) execute function cross_signing_key_changed();
