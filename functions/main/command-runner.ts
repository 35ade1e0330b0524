/** Carries out commands that others sent: on shards that this process owns, once however often they arrive. */
import type { Clock } from '../../shared/clock.ts'
import { type AnyCommand, shardOfCommand } from '../../shared/commands/define.ts'
import { commands, type MainClient } from '../../shared/commands/registry.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'
import type { MainSql } from '../../shared/storage/sql.ts'
import { type CommandCall, commandCalls, recordedAnswer } from './command-call.ts'
import type { OutageGuard } from './outage-guard.ts'
import { isRepeatedKey } from './persist/committer.ts'
import { anyShard, ShardMovedError, type ShardOwnership } from './shards/ownership.ts'

export type CommandName = keyof MainClient

/** The command is for another process, or for later: it is to be sent again. */
export class NotRunError extends Error {
  readonly failure: 'moved' | 'away'
  constructor(failure: 'moved' | 'away') {
    super(`a command was not carried out: ${failure}`)
    this.failure = failure
  }
}

export interface CommandRunner {
  /** Runs a command that came from another process, or joins it where it runs already. `request` is parsed. Rejects with
   *  NotRunError where the shard is not owned, or the lease on it is in doubt. */
  run(name: CommandName, request: unknown, call: Omit<CommandCall, 'name' | 'repetition' | 'secrets'>): Promise<unknown>
  /** Calls a handler as part of another command's work; undefined where the shard is not owned. */
  runHere(name: CommandName, request: unknown): Promise<unknown> | undefined
}

export interface CommandRunnerOptions {
  /** As they are: the guard is put around what is done here. */
  readonly handlers: MainClient
  readonly outages: OutageGuard
  readonly ownership: Pick<ShardOwnership, 'owns' | 'enter'>
  readonly sql: MainSql
  readonly clock: Clock
  readonly secrets: readonly string[]
}

const table: Readonly<Record<string, AnyCommand>> = commands

export function commandNamed(name: string): { readonly name: CommandName; readonly command: AnyCommand } | undefined {
  const command = Object.hasOwn(table, name) ? table[name] : undefined
  return command && { name: name as CommandName, command }
}

export function createCommandRunner(options: CommandRunnerOptions): CommandRunner {
  const { outages, ownership, sql, secrets } = options
  const handlers = options.handlers as Record<CommandName, (request: never) => Promise<unknown>>
  const underWay = new Map<string, Promise<unknown>>()

  async function once(name: CommandName, request: unknown, call: CommandCall): Promise<unknown> {
    const recorded = call.repetition !== 'harmless'
    if (recorded && call.isRetry) {
      const before = await recordedAnswer(sql, call)
      if (before !== undefined) return before
    }
    try {
      return await commandCalls.run(call, () => handlers[name](request as never))
    } catch (error) {
      // The same command ran elsewhere meanwhile, or an earlier sending of it arrived late.
      if (!recorded || !isRepeatedKey(error)) throw error
      const before = await recordedAnswer(sql, call)
      if (before === undefined) throw error
      return before
    }
  }

  /** Holds the shard until `work` has ended, whether or not its caller still waits then. */
  function holding<T>(shard: number | undefined, nested: boolean, work: () => Promise<T>): Promise<T> | undefined {
    const leave = ownership.enter(shard ?? anyShard, nested)
    if (!leave) return undefined
    const done = work()
    done.then(leave, leave)
    return done
  }

  return {
    run(name, request, sent) {
      const command = table[name]
      if (!command) throw new Error(`no command ${name}`)
      const place = `${name} ${sent.key}`
      const shard = shardOfCommand(command, request)
      let running = underWay.get(place)
      if (!running) {
        const call = { ...sent, name, repetition: command.repetition, secrets }
        try {
          running = holding(shard, false, () => once(name, request, call))
        } catch (error) {
          return Promise.reject(error instanceof MatrixError ? new NotRunError('away') : error)
        }
        if (!running) return Promise.reject(new NotRunError('moved'))
        underWay.set(place, running)
        const forget = () => underWay.delete(place)
        running.then(forget, forget)
      }
      const result = running
      return outages
        .wait(() => result)
        .catch((error: unknown) => {
          if (error instanceof ShardMovedError) throw new NotRunError('moved')
          // It may be away for this process alone: another has taken over the shard.
          const isAway = error instanceof MatrixError && error.errcode === 'M_UNAVAILABLE'
          throw isAway && shard !== undefined && !ownership.owns(shard) ? new NotRunError('moved') : error
        })
    },
    runHere(name, request) {
      const command = table[name]
      if (!command) throw new Error(`no command ${name}`)
      // The call around it is another command's: its key must not record this answer.
      return holding(shardOfCommand(command, request), true, () =>
        commandCalls.exit(() => handlers[name](request as never)),
      )
    },
  }
}
