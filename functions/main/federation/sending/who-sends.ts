/** Which shards a main sends for. Its own, as with all background work; and where some mains are set not to send, those that do
 *  share the shards of these, each by the same rule. For a moment two may send for one: what they write, and the ids of their
 *  transactions, see to it that nothing is lost and nothing counts twice. */
import type { Clock } from '../../../../shared/clock.ts'
import type { MainSql } from '../../../../shared/storage/sql.ts'
import type { ShardOwnership } from '../../shards/ownership.ts'
import type { Outgoing } from './outgoing.ts'

const lookEveryMs = 1_000

export interface WhoSendsDeps {
  readonly sql: MainSql
  readonly clock: Clock
  /** Of this main, as in table mains. */
  readonly id: string
  readonly sends: boolean
  readonly ownership: Pick<ShardOwnership, 'owns' | 'onGained' | 'onLost'>
  readonly outgoing: Pick<Outgoing, 'gained' | 'lost'>
  readonly onError: (error: unknown) => void
}

/** Which of the shards, owned by mains that do not send, are this main's to send for. */
export function sharedOut(shards: readonly number[], senders: readonly string[], id: string): Set<number> {
  const inOrder = senders.toSorted()
  return new Set(shards.filter((shard) => inOrder[shard % inOrder.length] === id))
}

/** Returns what ends it. */
export function startWhoSends({
  sql,
  clock,
  id,
  sends,
  ownership,
  outgoing,
  onError,
}: WhoSendsDeps): () => Promise<void> {
  if (!sends) {
    const told = sql`update mains set sends = false where id = ${id}`.catch(onError)
    return async () => void (await told)
  }
  /** For mains that do not send. */
  let lent = new Set<number>()
  let looking: Promise<void> | undefined
  let closed = false
  const offs = [
    ownership.onGained((shards) => outgoing.gained(shards)),
    ownership.onLost((shards) => outgoing.lost(shards)),
  ]

  async function look(): Promise<void> {
    const [owned, senders] = await Promise.all([
      sql<{ shard: number }[]>`select s.shard from shards s join mains m on m.id = s.owner where not m.sends`,
      sql<{ id: string }[]>`select id from mains where sends and not leaving and expires_at > clock_timestamp()`,
    ])
    const now = sharedOut(
      owned.map((one) => one.shard),
      senders.map((sender) => sender.id),
      id,
    )
    const gained = [...now].filter((shard) => !lent.has(shard) && !ownership.owns(shard))
    const lost = [...lent].filter((shard) => !now.has(shard) && !ownership.owns(shard))
    lent = now
    if (gained.length > 0) outgoing.gained(gained)
    if (lost.length > 0) outgoing.lost(lost)
  }

  let cancel = clock.after(lookEveryMs, tick)
  function tick(): void {
    looking = look()
      .catch(onError)
      .finally(() => {
        if (!closed) cancel = clock.after(lookEveryMs, tick)
      })
  }
  return async () => {
    closed = true
    cancel()
    for (const off of offs) off()
    await looking
  }
}
