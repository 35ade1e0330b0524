/** What this process counts as it goes: plain numbers, so that counting costs nothing where nobody reads them. They belong
 *  to the process, not to one of its parts, and are read at each scrape. */
import type { StreamName } from '../streams/registry.ts'
import { WindowMax } from './window-max.ts'

export interface CacheTally {
  hits: number
  misses: number
  /** What it holds now: entries, or bytes where its name says so. */
  size?: (() => number) | undefined
}

interface StreamTally {
  /** Rows that were delivered to this process's listeners from another process. */
  received: number
  /** Rows that this process published. */
  published: number
  /** Times at which a message was missing and the gap was read. */
  caughtUp: number
}

export interface CommandTally {
  /** By how it ended: `ok`, `refused`, or what failed. */
  readonly outcomes: Map<string, number>
  seconds: number
}

export const tallies = {
  eventsPersisted: 0,
  commits: 0,
  /** Writes that share a commit are counted one by one. */
  writes: 0,
  /** Requests that came to a role that does not serve their path, and were passed on. */
  misrouted: 0,
  // Written out: the registry brings the storage of each stream along, which the edge must not have.
  streams: {
    events: streamTally(),
    receipts: streamTally(),
    account_data: streamTally(),
    typing: streamTally(),
    presence: streamTally(),
    invalidations: streamTally(),
    device_lists: streamTally(),
    key_counts: streamTally(),
    to_device: streamTally(),
    thread_subscriptions: streamTally(),
  } satisfies Record<StreamName, StreamTally>,
  /** Clients that wait in a long poll. */
  waiting: 0,
  /** Milliseconds from when something was published until who waits for it here was woken. */
  lag: new WindowMax(),
  /** Milliseconds from a command to Redis until its answer. */
  redisRoundTrip: new WindowMax(),
}

/** A number that some part of this process can tell at any time, such as the depth of a queue. */
export interface LiveNumber {
  readonly help: string
  read(): number
}

const numbers = new Map<string, LiveNumber>()
function streamTally(): StreamTally {
  return { received: 0, published: 0, caughtUp: 0 }
}

const caches = new Map<string, CacheTally>()
const commandsSent = new Map<string, CommandTally>()
const commandsRun = new Map<string, CommandTally>()

/** The tally of all caches of this name in the process. Names are fixed in the program, such as `access_tokens`. */
export function cacheTally(name: string): CacheTally {
  return entryOf(caches, name, () => ({ hits: 0, misses: 0 }))
}

/** Commands that this process asks a main to run. */
export function commandSentTally(command: string): CommandTally {
  return entryOf(commandsSent, command, emptyCommandTally)
}

/** Commands that this process runs for handlers. */
export function commandRunTally(command: string): CommandTally {
  return entryOf(commandsRun, command, emptyCommandTally)
}

/** Tells others where to read a number; its name is that of its metric. A later one of the same name replaces it.
 *  The returned function ends that. */
export function liveNumber(name: string, help: string, read: () => number): () => void {
  const mine = { help, read }
  numbers.set(name, mine)
  return () => {
    if (numbers.get(name) === mine) numbers.delete(name)
  }
}

export function allNumbers(): ReadonlyMap<string, LiveNumber> {
  return numbers
}

export function allCaches(): ReadonlyMap<string, Readonly<CacheTally>> {
  return caches
}

export function allCommands(): Readonly<Record<'sent' | 'run', ReadonlyMap<string, CommandTally>>> {
  return { sent: commandsSent, run: commandsRun }
}

/** Notes how one command ended. */
export function commandEnded(tally: CommandTally, outcome: string, elapsedMs: number): void {
  tally.outcomes.set(outcome, (tally.outcomes.get(outcome) ?? 0) + 1)
  tally.seconds += elapsedMs / 1000
}

function emptyCommandTally(): CommandTally {
  return { outcomes: new Map(), seconds: 0 }
}

function entryOf<Entry>(entries: Map<string, Entry>, name: string, make: () => Entry): Entry {
  const known = entries.get(name)
  if (known) return known
  const made = make()
  entries.set(name, made)
  return made
}
