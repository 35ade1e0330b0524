/** What became of transactions, written for all at once that end while the last write is under way. */
import type { Clock } from '../../../../shared/clock.ts'
import type { ServerName } from '../../../../shared/matrix/ids.ts'
import type { DestinationsTable } from './destinations-table.ts'

export type Outcome =
  | { readonly kind: 'delivered'; readonly server_name: ServerName; readonly transaction_id: string }
  | { readonly kind: 'answered'; readonly server_name: ServerName }
  | {
      readonly kind: 'failed'
      readonly server_name: ServerName
      readonly attempts: number
      readonly retry_ts: number
      readonly error: string
    }

export interface Outcomes {
  /** Resolves when it is written; rejects where that fails. */
  write(outcome: Outcome): Promise<void>
}

export function createOutcomes(table: DestinationsTable, clock: Clock): Outcomes {
  let waiting: { outcome: Outcome; resolve: () => void; reject: (error: unknown) => void }[] = []
  let writing = false

  async function writeAll(): Promise<void> {
    writing = true
    while (waiting.length > 0) {
      const batch = waiting
      waiting = []
      const of = <Kind extends Outcome['kind']>(kind: Kind) =>
        batch.flatMap(({ outcome }) => (outcome.kind === kind ? [outcome as Extract<Outcome, { kind: Kind }>] : []))
      const [delivered, answered, failed] = [of('delivered'), of('answered'), of('failed')]
      const now = clock.now()
      try {
        if (delivered.length > 0) await table.delivered(delivered, now)
        if (answered.length > 0) {
          await table.answered(
            answered.map((one) => one.server_name),
            now,
          )
        }
        if (failed.length > 0) await table.failed(failed, now)
        for (const { resolve } of batch) resolve()
      } catch (error) {
        for (const { reject } of batch) reject(error)
      }
    }
    writing = false
  }

  return {
    write(outcome) {
      return new Promise((resolve, reject) => {
        waiting.push({ outcome, resolve, reject })
        // Once this turn is over, so that those who end together are written together.
        if (!writing) {
          writing = true
          setImmediate(() => void writeAll())
        }
      })
    },
  }
}
