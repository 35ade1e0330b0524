-- A main may leave sending to other servers to others of its kind (main.sends_to_servers).
alter table mains add column sends boolean not null default true;
