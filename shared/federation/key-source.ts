/** Where keys of servers come from. */
import * as v from 'valibot'
import type { Clock } from '../clock.ts'
import { type ServerName, ServerName as ServerNameSchema } from '../matrix/ids.ts'
import { isJsonObject, type JsonObject } from '../matrix/json-value.ts'
import { verifyJson, verifyKeyFromBase64 } from '../matrix/signatures.ts'
import { type FederationClient, RemoteError } from './federation-client.ts'
import { checkedKeyDocument, type KeyDocument } from './key-document.ts'

export interface KeySource {
  /** Checked; undefined where nobody gives any. Never rejects. */
  ask(server_name: ServerName): Promise<KeyDocument | undefined>
}

const limits = { bytesMax: 256 * 1024, totalMs: 15_000 }
const answer = v.object({ server_keys: v.pipe(v.array(v.unknown()), v.maxLength(100)) })
const named = v.object({ server_name: ServerNameSchema })

export function createKeySource(deps: {
  readonly client: FederationClient
  readonly clock: Clock
  readonly notaries: readonly ServerName[]
}): KeySource {
  const { client, clock, notaries } = deps

  /** The server's own word, over a connection that its certificate vouches for. */
  async function direct(server_name: ServerName): Promise<KeyDocument | undefined> {
    const document = await orNothing(client.json(server_name, { method: 'GET', uri: '/_matrix/key/v2/server', limits }))
    return document && checkedKeyDocument(document, { server_name, now: clock.now() })
  }

  /** What a notary has signed. It can pass nothing off as another server's keys that this server did not sign. */
  async function fromNotary(notary: ServerName, server_name: ServerName): Promise<KeyDocument | undefined> {
    const body = { server_keys: { [server_name]: {} } }
    const [reply, own] = await Promise.all([
      orNothing(client.json(notary, { method: 'POST', uri: '/_matrix/key/v2/query', body, limits })),
      direct(notary),
    ])
    const parsed = v.safeParse(answer, reply)
    if (!parsed.success || !own) return undefined
    const notaryKeys = new Map(own.keys.map((key) => [key.key_id, verifyKeyFromBase64(key.public_key)]))
    const documents = parsed.output.server_keys
      .filter((document): document is JsonObject => isJsonObject(document))
      .filter((document) => v.is(named, document) && document.server_name === server_name)
      .filter((document) => verifyJson(document, notary, (id) => notaryKeys.get(id)))
      .flatMap((document) => checkedKeyDocument(document, { server_name, now: clock.now() }) ?? [])
    return documents.toSorted((a, b) => b.valid_until_ts - a.valid_until_ts)[0]
  }

  return {
    async ask(server_name) {
      const own = await direct(server_name)
      if (own) return own
      for (const notary of notaries) {
        const found = notary === server_name ? undefined : await fromNotary(notary, server_name)
        if (found) return found
      }
      return undefined
    },
  }
}

async function orNothing(answered: Promise<JsonObject>): Promise<JsonObject | undefined> {
  try {
    return await answered
  } catch (error) {
    if (error instanceof RemoteError) return undefined
    throw error
  }
}
