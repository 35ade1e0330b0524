/** Work that many wait for together. Whoever asks waits for a round that begins after that: what a round under way has read
 *  may be older than what made the caller ask. */

/** Rounds follow each other while somebody asks; nothing runs otherwise. */
export function nextRound<T>(work: () => Promise<T>): () => Promise<T> {
  let next: PromiseWithResolvers<T> | undefined
  let running = false

  async function run(): Promise<void> {
    // Who asks in the same turn goes along.
    await undefined
    for (let round = next; round; round = next) {
      next = undefined
      try {
        round.resolve(await work())
      } catch (error) {
        round.reject(error)
      }
    }
    running = false
  }

  return () => {
    next ??= Promise.withResolvers<T>()
    const { promise } = next
    if (!running) {
      running = true
      void run()
    }
    return promise
  }
}
