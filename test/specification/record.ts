/** What the files of a test run have seen, one record each in the folder that `npm test` makes for the run. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'

export interface FileRecord {
  /** The test file, from the project's folder. */
  readonly file: string
  /** How often each operation was answered validly with each status. */
  readonly seen: Readonly<Record<string, Readonly<Record<string, number>>>>
}

export const projectFolder = path.resolve(import.meta.dirname, '../..')

/** Undefined where vitest was not started by `npm test`. */
const folder = process.env.GANGLION_TEST_ANSWERS

export function keepRecord(record: FileRecord): void {
  if (folder === undefined) return
  writeFileSync(path.join(folder, `${record.file.replaceAll('/', '+')}.json`), JSON.stringify(record))
}

/** The records of a run of all tests; undefined in a run of some. */
export function recordsOfWholeRun(): readonly FileRecord[] | undefined {
  if (folder === undefined || process.env.GANGLION_TEST_WHOLE !== '1') return undefined
  return readdirSync(folder).map((name) => JSON.parse(readFileSync(path.join(folder, name), 'utf8')) as FileRecord)
}
