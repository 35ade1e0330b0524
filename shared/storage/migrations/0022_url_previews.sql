-- Previews of URLs, kept for a while so that a page is fetched once however many ask for it.
create table url_previews (
  key text collate "C" primary key,      -- SHA-256 of the URL and of the language it was asked in
  claim text collate "C" not null,       -- who makes it, or made it
  claimed_until bigint not null,         -- 0: it is made
  answer text,                           -- JSON, see functions/media/previews/preview-cache.ts; null: not made yet
  expires_ts bigint not null             -- of the answer, and of a row that has none
);
create index url_previews_expires on url_previews (expires_ts);
comment on table url_previews is 'owner: functions/main/commands/url-previews.ts; retention: until expires_ts';
