/** Who should own what, as one main sees it. Each main gives away only what is its own, so that nobody has to agree with
 *  anybody: all come to the same from what the database says. Pure. */

export interface SeenMain {
  readonly id: string
  readonly standby: boolean
  /** It ends, and takes nothing any more. */
  readonly leaving: boolean
  /** Until its lease is over; negative after that. */
  readonly left_ms: number
}

export interface Sight {
  readonly mains: readonly SeenMain[]
  /** Owner by shard; null: free. */
  readonly owners: readonly (string | null)[]
}

export interface Moves {
  /** Mains whose lease is over. */
  readonly takeOver: readonly string[]
  /** How many free shards to take. */
  readonly claim: number
  /** To whom which of the own shards go. */
  readonly give: readonly { readonly shard: number; readonly to: string }[]
}

export function planMoves(me: string, sight: Sight): Moves {
  const leaving = sight.mains.find((main) => main.id === me)?.leaving ?? true
  const live = sight.mains.filter((main) => !main.leaving && (main.left_ms > 0 || main.id === me))
  const active = live.filter((main) => !main.standby)
  // Standbys share among themselves while there is nobody else.
  const sharing = (active.length > 0 ? active : live).map((main) => main.id).sort()
  const takeOver = leaving ? [] : sight.mains.filter((main) => main.left_ms <= 0 && main.id !== me).map(({ id }) => id)
  if (sharing.length === 0) return { takeOver, claim: 0, give: [] }

  const share = Math.ceil(sight.owners.length / sharing.length)
  const held = new Map(sharing.map((id) => [id, 0]))
  const mine: number[] = []
  sight.owners.forEach((owner, shard) => {
    if (owner === me) mine.push(shard)
    if (owner !== null && held.has(owner)) held.set(owner, (held.get(owner) ?? 0) + 1)
  })
  const kept = held.has(me) ? share : 0
  const give: { shard: number; to: string }[] = []
  for (const shard of mine.slice(kept)) {
    const to = sharing
      .filter((id) => id !== me)
      .reduce<string | undefined>(
        (least, id) => (least === undefined || held.get(id)! < held.get(least)! ? id : least),
        undefined,
      )
    if (to === undefined) break
    held.set(to, held.get(to)! + 1)
    give.push({ shard, to })
  }
  return { takeOver, claim: Math.max(0, kept - mine.length), give }
}
