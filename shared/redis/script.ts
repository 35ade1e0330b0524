/** Scripts that run inside Redis in one step, declared once: in Lua for real ones, and as a function for the one in memory.
 *  The contract suite runs both on the same cases. */
import { createHash } from 'node:crypto'
import type { Redis } from '@upstash/redis'
import type { Reply } from './commander.ts'

export interface RedisScript {
  readonly name: string
  readonly lua: string
  /** SHA-1 of the Lua text, by which Redis knows a script that it ran before. */
  readonly sha: string
  readonly memory: MemoryScript
  /** Runs it; sends its text only to a Redis that doesn't know it yet. The reply is plain, to be parsed. */
  run(client: Redis, keys: readonly string[], args: readonly (string | number)[]): Promise<unknown>
}

/** The same in TypeScript: `call` runs a command at once and throws on an error reply, as `redis.call` does. */
export type MemoryScript = (
  call: (...command: readonly (string | number)[]) => Reply,
  keys: readonly string[],
  args: readonly string[],
) => Reply

/** Declared scripts by their hash: how the Redis in memory knows what EVALSHA and EVAL mean. */
const declared = new Map<string, RedisScript>()

/** Scripts take all keys that they touch as `KEYS`, under one hash tag: a cluster runs them nowhere else. */
export function defineScript(script: {
  readonly name: string
  readonly lua: string
  readonly memory: MemoryScript
}): RedisScript {
  const sha = createHash('sha1').update(script.lua).digest('hex')
  const defined: RedisScript = {
    ...script,
    sha,
    async run(client, keys, args) {
      const texts = args.map(String)
      try {
        return await client.evalsha<string[], unknown>(sha, [...keys], texts)
      } catch (error) {
        // Nothing was run, so this is no repetition.
        if (!(error instanceof Error) || !error.message.includes('NOSCRIPT')) throw error
        return client.eval<string[], unknown>(script.lua, [...keys], texts)
      }
    },
  }
  declared.set(sha, defined)
  return defined
}

export function declaredScript(sha: string): RedisScript | undefined {
  return declared.get(sha.toLowerCase())
}

export function scriptOfText(lua: string): RedisScript | undefined {
  return declared.get(createHash('sha1').update(lua).digest('hex'))
}
