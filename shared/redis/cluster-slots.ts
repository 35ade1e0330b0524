/** Where a key lies in a cluster. https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/ */
import type { RedisCommand } from './commander.ts'

export const slotCount = 16_384

/** CRC16 (XMODEM) of the key, or of what stands between its first braces. */
export function keySlot(key: string): number {
  const open = key.indexOf('{')
  const close = key.indexOf('}', open + 1)
  const hashed = open !== -1 && close > open + 1 ? key.slice(open + 1, close) : key
  let crc = 0
  for (const byte of Buffer.from(hashed, 'utf8')) {
    crc ^= byte << 8
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : (crc << 1) & 0xffff
  }
  return crc % slotCount
}

const keyless = new Set(
  'PING ECHO TIME PUBLISH SCRIPT FLUSHALL FLUSHDB DBSIZE KEYS SCAN INFO ROLE CLIENT CONFIG CLUSTER WAIT'.split(' '),
)
/** Commands with a subcommand or a count before their first key. */
const keySecond = new Set('OBJECT XGROUP XINFO MEMORY BITOP ZDIFF ZINTER ZUNION SINTERCARD ZMPOP LMPOP'.split(' '))

/** The first key of a command; undefined where any node will do. */
export function firstKey([name, ...args]: RedisCommand): string | undefined {
  const upper = name.toUpperCase()
  if (keyless.has(upper)) return undefined
  if (upper.startsWith('EVAL') || upper.startsWith('FCALL')) return args[1] === '0' ? undefined : args[2]
  if (upper === 'XREAD' || upper === 'XREADGROUP') {
    return args[args.findIndex((arg) => arg.toUpperCase() === 'STREAMS') + 1]
  }
  return keySecond.has(upper) ? args[1] : args[0]
}
