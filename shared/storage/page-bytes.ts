/** How much of a timeline is read at once. Events are up to 64 KiB, so a page of hundreds is told by its bytes as well as by
 *  its number: it ends early, after the event that fills it. */
export const pageBytesMax = 1024 * 1024

interface Sized {
  readonly content: string
}

/** What the contents take as UTF-8: what `octet_length` says in the database. */
export function contentBytes(events: Iterable<Sized>): number {
  let bytes = 0
  for (const { content } of events) bytes += Buffer.byteLength(content)
  return bytes
}
