/** What every kind of Redis offers to the requester above it. */

/** Bulk strings as UTF-8 text, integers, nil, arrays of these. */
export type Reply = string | number | null | Reply[]

/** What one command of several came to. */
export type Outcome = { readonly result: Reply } | { readonly error: string }

export type RedisCommand = readonly [name: string, ...args: string[]]

/** Rejects with RedisAwayError, and with RedisReplyError for what Redis refuses. */
export interface Commander {
  send(command: RedisCommand): Promise<Reply>
  /** In order, other commands may come between. Losing Redis rejects the whole. */
  pipeline(commands: readonly RedisCommand[]): Promise<Outcome[]>
  /** MULTI … EXEC; rejects with RedisReplyError when nothing of it was done. */
  transaction(commands: readonly RedisCommand[]): Promise<Outcome[]>
  close(): Promise<void>
}

export interface SubscriptionHandlers {
  message(text: string): void
  /** The subscription took hold. Messages may have been missed before. */
  up(): void
  /** It is lost; it comes back by itself. */
  down(): void
}

export interface PubSub {
  /** Returns what ends it. */
  subscribe(channel: string, on: SubscriptionHandlers): () => void
  /** The same for a pattern; tells the channel too. */
  psubscribe(
    pattern: string,
    on: Omit<SubscriptionHandlers, 'message'> & { message(text: string, channel: string): void },
  ): () => void
  close(): void
}
