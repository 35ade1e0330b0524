/** Runs tasks of one key one after the other, and tasks of different keys side by side. */
export interface KeyedQueue {
  run<T>(key: string, task: () => Promise<T>): Promise<T>
}

export function createKeyedQueue(): KeyedQueue {
  const tails = new Map<string, Promise<unknown>>()
  return {
    run(key, task) {
      const before = tails.get(key)
      // A failed predecessor has told its own caller; it does not stop who comes next.
      const mine = before ? before.then(task, task) : task()
      tails.set(key, mine)
      const forget = () => {
        if (tails.get(key) === mine) tails.delete(key)
      }
      mine.then(forget, forget)
      return mine
    },
  }
}
