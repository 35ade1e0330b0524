/** Names in Redis. Everything of one installation lies under its prefix, and as a hash tag, so that a cluster keeps it on
 *  one node: scripts and transactions need their keys together. */

/** What a channel's name may hold: over REST it travels in a path, and a comma ends it. */
const channelName = /^[a-z0-9:._-]+$/

export interface Keyspace {
  readonly prefix: string
  /** `{prefix}:part:part…` */
  key(...parts: readonly (string | number)[]): string
  /** `prefix:part:part…`, of `[a-z0-9:._-]`; throws TypeError for anything else. */
  channel(...parts: readonly string[]): string
}

export function keyspace(prefix: string): Keyspace {
  return {
    prefix,
    key: (...parts) => `{${prefix}}:${parts.join(':')}`,
    channel(...parts) {
      const name = [prefix, ...parts].join(':')
      if (!channelName.test(name)) throw new TypeError(`not a name of a channel: ${name}`)
      return name
    },
  }
}
