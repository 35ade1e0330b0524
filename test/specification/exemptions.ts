/** Tests whose answers are not a Ganglion server's, or are broken on purpose. */
interface Exemption {
  readonly file: string
  /** How the names of its exempted tests begin; without it, all of the file. */
  readonly test?: string
  readonly why: string
}

export const exemptions: readonly Exemption[] = [{ file: 'shared/http/mount.test.ts', why: 'its routes are made up' }]

export function isExempt(file: string, test: string): boolean {
  return exemptions.some((each) => each.file === file && (each.test === undefined || test.startsWith(each.test)))
}
