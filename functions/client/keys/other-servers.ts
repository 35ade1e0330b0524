/** What other servers are asked on a client's behalf, all at once; who does not answer is told to the client. */

import * as v from 'valibot'
import { RemoteError } from '../../../shared/federation/federation-client.ts'
import { ServerName, serverNameOf, type UserId } from '../../../shared/matrix/ids.ts'

const defaultWaitMs = 10_000
const longestWaitMs = 30_000
const serversMax = 200

/** How long the client wants to wait for other servers, in milliseconds. */
export function waitMs(timeout: number | undefined): number {
  return Math.max(100, Math.min(timeout ?? defaultWaitMs, longestWaitMs))
}

export function byServer(
  users: readonly UserId[],
  own: ServerName,
): { local: UserId[]; remote: Map<ServerName, UserId[]> } {
  const local: UserId[] = []
  const remote = new Map<ServerName, UserId[]>()
  for (const user of users) {
    const server = serverNameOf(user)
    if (server === own) {
      local.push(user)
      continue
    }
    const others = remote.get(server)
    if (others) others.push(user)
    else remote.set(server, [user])
  }
  return { local, remote }
}

export interface Elsewhere<Answer> {
  readonly answers: readonly Answer[]
  /** By server. */
  readonly failures: Readonly<Record<string, { readonly errcode: string; readonly error: string }>>
}

export async function askServers<Answer>(
  remote: ReadonlyMap<ServerName, readonly UserId[]>,
  ask: (server: ServerName, users: readonly UserId[]) => Promise<Answer>,
): Promise<Elsewhere<Answer>> {
  const failures = new Map<string, { errcode: string; error: string }>()
  const answers: Answer[] = []
  let asked = 0
  await Promise.all(
    Array.from(remote, async ([server, users]) => {
      const fail = (error: string) => void failures.set(server, { errcode: 'M_UNAVAILABLE', error })
      if (!v.is(ServerName, server)) return fail('This is no name of a server')
      if (++asked > serversMax) return fail('Too many servers at once')
      try {
        answers.push(await ask(server as ServerName, users))
      } catch (error) {
        if (error instanceof RemoteError) fail(error.message)
        else if (error instanceof Error && error.name === 'TimeoutError') fail(`${server} did not answer in time`)
        else throw error
      }
    }),
  )
  return { answers, failures: Object.fromEntries(failures) }
}
