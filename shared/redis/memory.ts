/** Redis within this process: the same commands, scripts, transactions and messages, for tests and for one process alone. */
import { type Clock, systemClock } from '../clock.ts'
import type { Commander, Outcome, PubSub, RedisCommand, Reply } from './commander.ts'
import { RedisAwayError, RedisReplyError } from './errors.ts'
import { hashCommands, listCommands, setCommands } from './memory-collections.ts'
import { globPattern, integer, type MemoryCommands } from './memory-command.ts'
import { MemoryStore } from './memory-store.ts'
import { keyCommands, stringCommands } from './memory-strings.ts'
import { zsetCommands } from './memory-zsets.ts'
import { declaredScript, type RedisScript, scriptOfText } from './script.ts'

const commands: MemoryCommands = {
  ...keyCommands,
  ...stringCommands,
  ...hashCommands,
  ...setCommands,
  ...listCommands,
  ...zsetCommands,
}

/** What several connections of one process may share. */
export interface MemoryServer {
  connect(): { readonly commander: Commander; readonly pubSub: PubSub }
}

interface Subscription {
  readonly matches: (channel: string) => boolean
  message(text: string, channel: string): void
}

export function memoryServer(clock: Pick<Clock, 'now'> = systemClock): MemoryServer {
  const store = new MemoryStore(clock)
  const known = new Set<string>()
  const subscriptions = new Set<Subscription>()

  function run([name, ...args]: RedisCommand): Reply {
    switch (name.toUpperCase()) {
      case 'PUBLISH':
        return publish(args)
      case 'EVAL':
        return evaluate(scriptOfText(args[0] ?? ''), args.slice(1))
      case 'EVALSHA': {
        const script = known.has(args[0] ?? '') ? declaredScript(args[0] ?? '') : undefined
        if (!script) throw new RedisReplyError('NOSCRIPT No matching script. Please use EVAL.')
        return evaluate(script, args.slice(1))
      }
      default: {
        const command = commands[name.toUpperCase()]
        refuse(name, args)
        return command!.run(store, args)
      }
    }
  }

  function publish([channel, text]: readonly string[]): number {
    if (channel === undefined || text === undefined) throw wrongCount('publish')
    const receivers = [...subscriptions].filter((subscription) => subscription.matches(channel))
    // Later, as a message over a wire would be: a publisher never runs in its receivers.
    for (const receiver of receivers) {
      queueMicrotask(() => {
        if (subscriptions.has(receiver)) receiver.message(text, channel)
      })
    }
    return receivers.length
  }

  function evaluate(script: RedisScript | undefined, [count, ...rest]: readonly string[]): Reply {
    if (!script) throw new RedisReplyError('ERR a script that was not declared by defineScript')
    known.add(script.sha)
    const keys = integer(count)
    if (keys < 0 || keys > rest.length)
      throw new RedisReplyError("ERR Number of keys can't be greater than number of args")
    return script.memory(
      (...command) => run(command.map(String) as unknown as RedisCommand),
      rest.slice(0, keys),
      rest.slice(keys),
    )
  }

  function outcome(command: RedisCommand): Outcome {
    try {
      return { result: run(command) }
    } catch (error) {
      if (error instanceof RedisReplyError) return { error: error.message }
      throw error
    }
  }

  return {
    connect() {
      let closed = false
      const own = new Set<() => void>()
      const open = () => {
        if (closed) throw new RedisAwayError('the connection is closed', false)
      }
      const commander: Commander = {
        async send(command) {
          open()
          return run(command)
        },
        async pipeline(list) {
          open()
          return list.map(outcome)
        },
        async transaction(list) {
          open()
          for (const [name, ...args] of list) {
            try {
              refuse(name, args)
            } catch (error) {
              const { message } = error as RedisReplyError
              throw new RedisReplyError(`EXECABORT Transaction discarded because of previous errors. ${message}`)
            }
          }
          return list.map(outcome)
        },
        async close() {
          closed = true
        },
      }
      const add = (subscription: Subscription, up: () => void): (() => void) => {
        open()
        subscriptions.add(subscription)
        queueMicrotask(() => {
          if (subscriptions.has(subscription)) up()
        })
        const end = () => {
          subscriptions.delete(subscription)
          own.delete(end)
        }
        own.add(end)
        return end
      }
      const pubSub: PubSub = {
        subscribe: (name, on) => add({ matches: (channel) => channel === name, message: on.message }, on.up),
        psubscribe(glob, on) {
          const pattern = globPattern(glob)
          return add({ matches: (channel) => pattern.test(channel), message: on.message }, on.up)
        },
        close() {
          for (const end of own) end()
        },
      }
      return { commander, pubSub }
    },
  }
}

/** Throws the error reply of a command that is unknown or has the wrong number of arguments. */
function refuse(name: string, args: readonly string[]): void {
  if (/^(?:PUBLISH|EVAL|EVALSHA)$/i.test(name)) return
  const command = commands[name.toUpperCase()]
  if (!command) throw new RedisReplyError('ERR unknown command')
  if (args.length < command.least || args.length > command.most) throw wrongCount(name)
}

function wrongCount(name: string): RedisReplyError {
  return new RedisReplyError(`ERR wrong number of arguments for ${name.toLowerCase()} command`)
}
