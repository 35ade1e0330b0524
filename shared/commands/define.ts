/** A command is what a handler may ask of main. Declared once, as data: name, request and response schema, shard key.
 *  Two transports carry it: a function call in one process, HTTP with a shared secret between processes. */
import type * as v from 'valibot'
import { type ShardKey, shardOfKey } from './shards.ts'

/** What happens when a command arrives again because its answer was lost, perhaps at another main, perhaps after a crash.
 *  - `harmless`: it runs again; the effect and the answer are those of one run.
 *  - `recorded`: its answer is stored in the commit of its effect, and is given again.
 *  - `sealed`: as `recorded`, and the answer holds secrets: it is stored encrypted. */
export type Repetition = 'harmless' | 'recorded' | 'sealed'

export interface CommandDefinition<Name extends string, Request, Response> {
  readonly name: Name
  readonly request: v.GenericSchema<unknown, Request>
  readonly response: v.GenericSchema<unknown, Response>
  /** The room or user whose owner runs it, or a shard itself; undefined: any main. */
  shard(request: Request): ShardKey
  readonly repetition: Repetition
  /** How long a handler tries, where the configured time is too short for the work. */
  readonly deadlineMs?: number
}

export function defineCommand<const Name extends string, Request, Response>(
  definition: CommandDefinition<Name, Request, Response>,
): CommandDefinition<Name, Request, Response> {
  return definition
}

/** The shard whose owner runs this request; undefined: any main. */
export function shardOfCommand<Request>(
  command: Pick<CommandDefinition<string, Request, unknown>, 'shard'>,
  request: Request,
): number | undefined {
  return shardOfKey(command.shard(request))
}

export type AnyCommand = CommandDefinition<string, unknown, unknown>
export type RequestOf<C> = C extends CommandDefinition<string, infer Request, unknown> ? Request : never
export type ResponseOf<C> = C extends CommandDefinition<string, unknown, infer Response> ? Response : never

/** What handlers hold: `await main.sendEvent({…})` resolves when the effect is durable and its positions are visible. */
export type CommandClient<Registry extends Record<string, AnyCommand>> = {
  readonly [Name in keyof Registry]: (request: RequestOf<Registry[Name]>) => Promise<ResponseOf<Registry[Name]>>
}
/** What main provides: one handler a command. */
export type CommandHandlers<Registry extends Record<string, AnyCommand>> = CommandClient<Registry>
