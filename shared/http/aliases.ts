/** Old names of endpoints, by which clients still ask. */
const oldNames = [
  { now: '/_matrix/client/v3/', before: ['/_matrix/client/r0/'] },
  { now: '/_matrix/media/v3/', before: ['/_matrix/media/r0/', '/_matrix/media/v1/'] },
] as const

/** The further paths of what is declared with this one. */
export function aliasesOf(path: string): string[] {
  const { now, before } = oldNames.find((names) => path.startsWith(names.now)) ?? { now: '', before: [] }
  return before.map((old) => `${old}${path.slice(now.length)}`)
}
