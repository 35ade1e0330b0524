/** matrix-js-sdk with its Rust crypto, its keys in memory. */
import type * as sdk from 'matrix-js-sdk'
import {
  type CryptoApi,
  CryptoEvent,
  VerificationPhase,
  type VerificationRequest,
  VerificationRequestEvent,
  VerifierEvent,
} from 'matrix-js-sdk/lib/crypto-api/index.js'
import { type Account, type Client, quietClient, startSync, until } from './sdk-client.ts'

export interface CryptoClient extends Client {
  readonly password: string
  /** While it is set, no request of the client gets through: it goes on when it has a network again. */
  offline: boolean
}

/** Secret storage keys by their id: what a user has written down. */
export type Recovery = Map<string, Uint8Array<ArrayBuffer>>

const stepMs = 20_000

/** A device that encrypts, and syncs, by sliding sync where it is started so. `recovery` holds what its user knows. */
export async function cryptoClient(
  account: Account & { baseUrl: string; password: string },
  recovery: Recovery,
  startOptions: (client: Client) => sdk.IStartClientOpts = () => ({}),
): Promise<CryptoClient> {
  const network = { offline: false }
  const client = quietClient({
    ...account,
    fetchFn: (...request) => (network.offline ? Promise.reject(new TypeError('no network')) : fetch(...request)),
    cryptoCallbacks: {
      async getSecretStorageKey({ keys }) {
        const known = Object.keys(keys).find((key) => recovery.has(key))
        return known === undefined ? null : [known, recovery.get(known)!]
      },
      cacheSecretStorageKey: (key, _, privateKey) => void recovery.set(key, privateKey),
    },
  })
  await client.initRustCrypto({ useIndexedDB: false })
  await startSync(client, startOptions(client))
  return Object.defineProperty(Object.assign(client, { password: account.password, offline: false }), 'offline', {
    get: () => network.offline,
    set: (offline: boolean) => void Object.assign(network, { offline }),
  })
}

export function cryptoOf(client: Client): CryptoApi {
  const crypto = client.getCrypto()
  if (!crypto) throw new Error('the client has no crypto')
  return crypto
}

/** Messages of the room that the client could decrypt, oldest first. */
export function decrypted(client: Client, room: string): string[] {
  const events = client.getRoom(room)?.getLiveTimeline().getEvents() ?? []
  return events.flatMap((event) =>
    event.isEncrypted() && event.getType() === 'm.room.message' ? String(event.getContent().body) : [],
  )
}

/** As one does who looks at the room: what a client got by sliding sync it decrypts when it is to be shown. */
export const deciphers = (client: Client, room: string, body: string) =>
  until(
    client,
    async () => {
      await client.getRoom(room)?.decryptAllEvents()
      return decrypted(client, room).includes(body)
    },
    `"${body}", decrypted`,
  )

export async function setUpCrossSigning(client: CryptoClient): Promise<void> {
  await cryptoOf(client).bootstrapCrossSigning({
    async authUploadDeviceSigningKeys(upload) {
      await upload(null).catch(async (error: sdk.MatrixError) => {
        const session = error.data.session
        if (typeof session !== 'string') throw error
        const identifier = { type: 'm.id.user', user: client.getSafeUserId() }
        await upload({ type: 'm.login.password', identifier, password: client.password, session } as sdk.AuthDict)
      })
    },
  })
}

export async function setUpRecovery(client: Client): Promise<void> {
  const crypto = cryptoOf(client)
  await crypto.bootstrapSecretStorage({
    createSecretStorageKey: () => crypto.createRecoveryKeyFromPassphrase(),
    setupNewKeyBackup: true,
  })
}

/** The next verification that somebody asks this device for. */
function asked(client: Client): Promise<VerificationRequest> {
  return new Promise((resolve) => client.once(CryptoEvent.VerificationRequestReceived, resolve))
}

/** What it resolves to, where that does not take too long. */
async function soon<T>(promise: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${stepMs} ms in vain for ${what}`)), stepMs)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

function reaches(request: VerificationRequest, phase: VerificationPhase): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => end(new Error(`the verification stays in phase ${request.phase}`)), stepMs)
    const look = () => {
      if (request.phase >= phase)
        end(
          request.phase === VerificationPhase.Cancelled && phase !== request.phase ? new Error('cancelled') : undefined,
        )
    }
    const end = (error?: Error) => {
      clearTimeout(timer)
      request.off(VerificationRequestEvent.Change, look)
      if (error) reject(error)
      else resolve()
    }
    request.on(VerificationRequestEvent.Change, look)
    look()
  })
}

/** Both compare emoji, and find them alike. `ask` has one ask the other. */
export async function verify(ask: () => Promise<VerificationRequest>, other: Client): Promise<void> {
  const received = asked(other)
  const [mine, theirs] = await Promise.all([ask(), soon(received, 'the request to verify')])
  await theirs.accept()
  await reaches(mine, VerificationPhase.Ready)
  const verifier = await mine.startVerification('m.sas.v1')
  await reaches(theirs, VerificationPhase.Started)
  const shown: string[] = []
  const sides = [verifier, theirs.verifier!].map(async (side) => {
    side.on(VerifierEvent.ShowSas, (sas) => {
      shown.push(JSON.stringify(sas.sas.emoji))
      void sas.confirm()
    })
    await side.verify()
  })
  await soon(Promise.all(sides), 'the end of the verification')
  if (shown.length !== 2 || shown[0] !== shown[1]) throw new Error(`the two show ${shown.join(' and ')}`)
}
