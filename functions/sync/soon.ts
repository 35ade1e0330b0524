/** What memory can tell is there at once, what has to be read comes as a promise. An answer that a hundred clients wait for
 *  is made without a single promise this way: each would cost a turn through the queue of microtasks. */
export type Soon<T> = T | Promise<T>

export function soon<T, U>(value: Soon<T>, next: (value: T) => Soon<U>): Soon<U> {
  return value instanceof Promise ? value.then(next) : next(value)
}

type Settled<T extends readonly unknown[]> = { -readonly [K in keyof T]: Awaited<T[K]> }

/** As Promise.all; without a promise if there is none among the values. */
export function allSoon<const T extends readonly unknown[]>(values: T): Soon<Settled<T>> {
  for (const value of values) if (value instanceof Promise) return Promise.all(values) as Promise<Settled<T>>
  return values as Settled<T>
}
