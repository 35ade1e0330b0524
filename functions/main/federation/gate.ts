/** Lets so many pieces of work run side by side; the others wait for their turn, in order. */
export interface Gate {
  pass<T>(work: () => Promise<T>): Promise<T>
}

export function createGate(most: number): Gate {
  let running = 0
  const waiting: (() => void)[] = []
  return {
    async pass(work) {
      // Whoever ends hands its turn on.
      if (running >= most) await new Promise<void>((resolve) => waiting.push(resolve))
      else running++
      try {
        return await work()
      } finally {
        const next = waiting.shift()
        if (next) next()
        else running--
      }
    },
  }
}
