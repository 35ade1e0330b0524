/** What an operator sees of a process: metrics, traces, and its line on the status page. One call where a process puts
 *  itself together, whatever its role; what the configuration does not ask for is not loaded. */
import { randomBytes } from 'node:crypto'
import type { Clock } from '../clock.ts'
import type { Config } from '../config/schema.ts'
import type { MountContext } from '../http/mount.ts'
import type { Logger } from '../logging.ts'
import { openMetrics } from '../metrics/metrics.ts'
import { type OwnStatus, ownStatus, reportStatus, type StatusStore } from '../metrics/process-status.ts'
import { commandEnded, commandRunTally, commandSentTally } from '../metrics/tallies.ts'
import type { StreamPositions } from '../streams/registry.ts'
import { openTracer } from '../tracing/open-tracer.ts'
import type { Tracer } from '../tracing/tracer.ts'

interface Command {
  readonly name: string
  readonly durationMs: number
  readonly outcome: string
}

export interface Observed {
  /** For `roleContext`. */
  readonly observe: MountContext<unknown>['observe']
  readonly tracer: Tracer | undefined
  /** For the client and the server of commands. */
  commandSent(command: Command): void
  commandRun(command: Command): void
  /** Once there is replication. */
  watchStreams(positions: () => StreamPositions): void
  /** This process as the status page shows it. */
  readonly status: OwnStatus
  /** Says in Redis how this process is, until the returned function is called. `url`: where it listens. */
  report(store: StatusStore, url?: string): () => Promise<void>
  close(): Promise<void>
}

/** Rejects with a sentence for the operator where metrics cannot be served. */
export async function observeProcess(options: {
  readonly config: Config
  readonly role: string
  /** Its name among others of its role; default: some letters. */
  readonly id?: string
  /** It stores events. */
  readonly writes: boolean
  readonly clock: Clock
  readonly log: Logger
}): Promise<Observed> {
  const { config, role, writes, clock, log, id = `${role}-${randomBytes(4).toString('hex')}` } = options
  const metrics = await openMetrics({ config, role, writes, log })
  const tracer = await openTracer({ config, role, instance: id, clock, log })
  let positions: (() => StreamPositions) | undefined
  const statusAt = (url?: string) => ownStatus({ role, id, url, positions: () => positions?.() ?? {} })
  return {
    observe: metrics?.observe,
    tracer,
    commandSent: ({ name, outcome, durationMs }) => commandEnded(commandSentTally(name), outcome, durationMs),
    commandRun: ({ name, outcome, durationMs }) => commandEnded(commandRunTally(name), outcome, durationMs),
    watchStreams(given) {
      positions = given
      metrics?.watchStreams(given)
    },
    status: statusAt(),
    report: (store, url) => reportStatus(statusAt(url), { ...store, clock, log }),
    async close() {
      await tracer?.close()
      await metrics?.close()
    },
  }
}
