/** A process that a failed test left behind has the output of the test's worker open, and vitest would wait for it for ever: a
 *  while after the last test the run ends, with what it found. */
const waitMs = 30_000

export function teardown(): void {
  setTimeout(() => {
    process.stderr.write('a test left a process behind: the run ends without it\n')
    process.exit()
  }, waitMs).unref()
}
