-- The role of handlers: it reads, and the database refuses it everything else. It has no login of its own: grant it to one,
-- or let the writer's login take it on.

-- Makes the role where it is missing and grants it what it lacks; does nothing where all is well. Null, or why it cannot:
-- an operator's login need not be able to make roles.
create function grant_reads() returns text language plpgsql as $$
declare
  reader constant text := 'ganglion_reader';
  home constant text := current_schema();
begin
  if to_regrole(reader) is not null and pg_has_role(current_user, reader, 'member')
    and has_schema_privilege(reader, home, 'usage')
    and not exists (
      select from pg_class where relnamespace = home::regnamespace and relkind in ('r', 'p', 'v')
        and not has_table_privilege(reader, oid, 'select'))
  then
    return null;
  end if;
  -- Grants at the same time, by processes that start together, would disturb each other.
  perform pg_advisory_xact_lock(7263410002);
  if to_regrole(reader) is null then
    begin
      execute format('create role %I nologin', reader);
    exception
      when insufficient_privilege then
        return format('the login %I may not create roles', current_user);
      -- Roles belong to all databases of a server: another one's migration may have been quicker.
      when duplicate_object or unique_violation then null;
    end;
  end if;
  begin
    execute format('grant usage on schema %I to %I', home, reader);
    execute format('grant select on all tables in schema %I to %I', home, reader);
    execute format('alter default privileges in schema %I grant select on tables to %I', home, reader);
  exception
    when insufficient_privilege then
      return format('the login %I does not own all tables of schema %I', current_user, home);
  end;
  begin
    if not pg_has_role(current_user, reader, 'member') then execute format('grant %I to current_user', reader); end if;
  exception
    when insufficient_privilege then
      return format('the login %I may not grant itself the role %I', current_user, reader);
  end;
  return null;
end $$;

select grant_reads();
