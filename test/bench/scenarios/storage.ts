import { measureStateSize } from '../../storage/state-size.ts'
import { testDatabase } from '../../support/database.ts'
import { percentile } from '../measure.ts'
import { check, type Scenario } from '../scenario.ts'

const members = 10_000
const changes = 50_000

/** A room of 10,000 members with 50,000 changes of membership and forks: what its states take, beside the JSON of its state
 *  events, and how long the whole state at an old event takes to read. */
export const storage: Scenario = async (bench) => {
  const database = await testDatabase({ server: bench.databaseUrl })
  try {
    const size = await measureStateSize(database, { members, changes })
    check(size.members === members, `a state of ${size.members} members`)
    const mb = (bytes: number) => (bytes / 1e6).toFixed(1)
    const ratio = (size.storedBytes / size.jsonBytes).toFixed(2)
    const single = (ms: number) => ({ count: 1, p50Ms: ms, p99Ms: ms })
    return [
      {
        scenario: `states of ${changes} changes`,
        ...single(Number.NaN),
        count: changes,
        note: `${mb(size.storedBytes)} MB, ${ratio} of ${mb(size.jsonBytes)} MB of JSON`,
      },
      {
        scenario: `state of ${members} at an old event`,
        count: size.loadsMs.length,
        p50Ms: percentile(size.loadsMs, 50),
        p99Ms: percentile(size.loadsMs, 99),
        note: `the first ${size.loadsMs[0]?.toFixed(1)} ms`,
      },
      { scenario: `state of ${members} at an old event, again`, ...single(size.loadAgainMs) },
    ]
  } finally {
    await database.drop()
  }
}
