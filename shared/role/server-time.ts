import * as v from 'valibot'

const Time = v.tuple([v.pipe(v.string(), v.transform(Number)), v.pipe(v.string(), v.transform(Number))])

/** Milliseconds since the epoch, of Redis's answer to TIME. */
export function serverTime(reply: unknown): number {
  const [seconds, microseconds] = v.parse(Time, reply)
  return seconds * 1000 + Math.floor(microseconds / 1000)
}
