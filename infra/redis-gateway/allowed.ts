/** What may not go through the gateway: all callers share one connection, whose state nobody may change or hold up, and nobody
 *  administrates Redis from there. */
import type { RedisCommand } from '../../shared/redis/commander.ts'

const refused = new Set(
  [
    // They change what the connection is, or end it.
    'SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE MONITOR MULTI EXEC DISCARD WATCH UNWATCH',
    'SELECT AUTH HELLO RESET QUIT CLIENT ASKING READONLY READWRITE SYNC PSYNC REPLCONF',
    // They wait, and everybody with them.
    'BLPOP BRPOP BRPOPLPUSH BLMOVE BLMPOP BZPOPMIN BZPOPMAX BZMPOP WAIT WAITAOF',
    // They are for operators.
    'ACL BGREWRITEAOF BGSAVE CLUSTER CONFIG DEBUG FAILOVER FUNCTION LATENCY MIGRATE MODULE REPLICAOF RESTORE SAVE',
    'SENTINEL SHUTDOWN SLAVEOF SLOWLOG SWAPDB',
  ].flatMap((line) => line.split(' ')),
)

/** The error to answer with; undefined for a command that may pass. */
export function refusal([name, ...args]: RedisCommand): string | undefined {
  const upper = name.toUpperCase()
  if (refused.has(upper)) return `ERR ${upper} is not available through this gateway`
  if (/^XREAD(?:GROUP)?$/.test(upper)) {
    // Behind STREAMS come keys, which may be called anything.
    const options = args.slice(
      0,
      Math.max(
        0,
        args.findIndex((arg) => /^streams$/i.test(arg)),
      ),
    )
    if (options.some((option) => /^block$/i.test(option))) return 'ERR BLOCK is not available through this gateway'
  }
  return undefined
}
