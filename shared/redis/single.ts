/** Commands to one server, whether it is given or the one that Sentinel names. */
import type { Commander, Outcome, RedisCommand, Reply } from './commander.ts'
import { RedisAwayError, RedisReplyError, withoutArguments } from './errors.ts'
import type { Link } from './link.ts'

export function singleCommander(link: Link): Commander {
  /** The master became a replica, or has not loaded its data: the next connection may lead to a better one. */
  function noticing<T>(error: unknown): T {
    if (error instanceof RedisReplyError && /^(?:READONLY|LOADING|MASTERDOWN) /.test(error.message)) {
      if (error.message.startsWith('READONLY')) link.reconnect('the server is a replica now')
      throw new RedisAwayError(error.message, false)
    }
    throw error
  }
  return {
    send: (command) => link.send(command).catch(noticing<Reply>),
    pipeline: async (commands) => noticingIn(await link.sendTogether(commands)),
    transaction: async (commands) => noticingIn(await transaction(link, commands)),
    close: async () => link.close(),
  }

  function noticingIn(outcomes: Outcome[]): Outcome[] {
    if (outcomes.some((outcome) => 'error' in outcome && outcome.error.startsWith('READONLY ')))
      link.reconnect('the server is a replica now')
    return outcomes
  }
}

/** MULTI, the commands and EXEC in one go. Rejects with RedisReplyError when Redis refused the whole. */
export async function transaction(link: Link, commands: readonly RedisCommand[]): Promise<Outcome[]> {
  const replies = await link.sendTogether([['MULTI'], ...commands, ['EXEC']])
  const exec = replies.at(-1)
  if (exec === undefined || 'error' in exec) {
    // What could not be queued says more than EXECABORT does.
    const refused = replies.find((reply) => 'error' in reply) as { error: string } | undefined
    throw new RedisReplyError(refused && exec ? `${(exec as { error: string }).error} ${refused.error}` : 'EXECABORT')
  }
  // The items are checked one by one: each may be an error object of the client library.
  return ((exec.result ?? []) as unknown[]).map((item) =>
    item instanceof Error ? { error: withoutArguments(item.message) } : { result: item as Reply },
  )
}
