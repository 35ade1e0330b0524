/** The bound of an LRUCache by its number of entries. Its own option `max` sets aside memory for all of them at once, which a
 *  small server would pay for entries it never has; this grows with what is kept. */
export function entriesUpTo(count: number): { readonly maxSize: number; readonly sizeCalculation: () => number } {
  return { maxSize: count, sizeCalculation: one }
}

function one(): number {
  return 1
}
