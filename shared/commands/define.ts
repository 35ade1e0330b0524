/** A command is what a handler may ask of main. Declared once, as data: name, request and response schema, shard key.
 *  Two transports carry it: a function call in one process, HTTP with a shared secret between processes. */
import type * as v from 'valibot'

export interface CommandDefinition<Name extends string, Request, Response> {
  readonly name: Name
  readonly request: v.GenericSchema<unknown, Request>
  readonly response: v.GenericSchema<unknown, Response>
  /** The room or user whose owner runs it; undefined: any main. */
  shard(request: Request): string | undefined
}

export function defineCommand<const Name extends string, Request, Response>(
  definition: CommandDefinition<Name, Request, Response>,
): CommandDefinition<Name, Request, Response> {
  return definition
}

type AnyCommand = CommandDefinition<string, unknown, unknown>
export type RequestOf<C> = C extends CommandDefinition<string, infer Request, unknown> ? Request : never
export type ResponseOf<C> = C extends CommandDefinition<string, unknown, infer Response> ? Response : never

/** What handlers hold: `await main.sendEvent({…})` resolves when the effect is durable and its positions are visible. */
export type CommandClient<Registry extends Record<string, AnyCommand>> = {
  readonly [Name in keyof Registry]: (request: RequestOf<Registry[Name]>) => Promise<ResponseOf<Registry[Name]>>
}
/** What main provides: one handler a command. */
export type CommandHandlers<Registry extends Record<string, AnyCommand>> = CommandClient<Registry>
