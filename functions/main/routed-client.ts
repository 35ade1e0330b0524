/** Main's own client: what a command has to ask of another shard is done here where that shard is owned, and sent to its
 *  owner otherwise. */
import { commands, type MainClient } from '../../shared/commands/registry.ts'
import type { CommandName, CommandRunner } from './command-runner.ts'

/** `remote` sends to the owner of the shard, and tries until there is one. */
export function createRoutedClient(runner: Pick<CommandRunner, 'runHere'>, remote: MainClient): MainClient {
  const others = remote as Record<CommandName, (request: unknown) => Promise<unknown>>
  const entries = Object.keys(commands).map((key) => {
    const name = key as CommandName
    return [name, (request: unknown) => runner.runHere(name, request) ?? others[name](request)]
  })
  return Object.fromEntries(entries) as MainClient
}
