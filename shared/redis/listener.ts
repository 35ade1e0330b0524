/** Calls a listener. What it throws is a fault of ours, not of the connection that brought the message: it surfaces as an
 *  uncaught exception, and the connection stays. */
export function deliver(call: () => void): void {
  try {
    call()
  } catch (error) {
    queueMicrotask(() => {
      throw error
    })
  }
}
