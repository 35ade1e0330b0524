/** Who owns which shard, as a handler knows it. What is known may be out of date: whoever is refused looks again. */

export interface ShardOwner {
  /** Of the main process. */
  readonly id: string
  /** `http://host:port`, or `unix:/path/of/socket`. */
  readonly url: string
  /** Counts the shard's changes of owner. */
  readonly epoch: number
}

export interface ShardDirectory {
  /** As far as is known now; undefined where the shard is free or nothing was looked up yet. */
  ownerOf(shard: number): ShardOwner | undefined
  /** One of the mains, in turn; undefined where none is known. For commands that any main may take. */
  anyMain(): ShardOwner | undefined
  /** Looks again. `refused`: this owner of the shard turned a command away or can't be reached, so where Redis still names
   *  it, Postgres is asked. Calls at one time share a look. Never rejects: what can't be looked up stays as it was. */
  refresh(refused?: { readonly shard: number | undefined; readonly owner: ShardOwner | undefined }): Promise<void>
  /** Called when shards have another owner than before. Returns how to end that. */
  onChange(listener: () => void): () => void
  close(): void
}
