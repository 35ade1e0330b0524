/** Frees the memory of a piece that was passed on. The collector waits until it has tens of megabytes of such pieces to collect; a
 *  body of gigabytes would keep that much at any time. */
export function giveBack(piece: Uint8Array): void {
  const { buffer } = piece
  // Shared with nothing: what a socket read into memory of its own, all of it.
  if (buffer instanceof ArrayBuffer && piece.length === buffer.byteLength && buffer.byteLength >= leastBytes) {
    buffer.transfer(0)
  }
}

/** Smaller ones may be of a pool, and cost little. */
const leastBytes = 32 * 1024
