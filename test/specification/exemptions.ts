/** Tests whose answers are not a Ganglion server's, or are broken on purpose. */
interface Exemption {
  readonly file: string
  /** How the names of its exempted tests begin; without it, all of the file. */
  readonly test?: string
  readonly why: string
}

export const exemptions: readonly Exemption[] = [
  { file: 'shared/http/mount.test.ts', why: 'its routes are made up' },
  { file: 'shared/http/access-log.test.ts', why: 'its routes are made up' },
  { file: 'shared/role/forward.test.ts', why: 'what it forwards to is made up' },
  { file: 'test/operating/doctor.test.ts', why: 'it looks at answers of servers that are set up wrongly' },
  { file: 'test/synapse/peer.test.ts', why: 'half of its answers are Synapse’s' },
  {
    file: 'shared/metrics/metrics.test.ts',
    test: 'metrics > tell of caches',
    why: 'a listener of metrics answers nothing else',
  },
  ...['edge', 'edge-faults', 'edge-streams', 'proxies', 'sessions', 'worker'].map((name) => ({
    file: `test/edge/${name}.test.ts`,
    why: 'the handlers behind the proxy are made up',
  })),
]

export function isExempt(file: string, test: string): boolean {
  return exemptions.some((each) => each.file === file && (each.test === undefined || test.startsWith(each.test)))
}
