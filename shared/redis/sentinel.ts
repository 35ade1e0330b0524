/** Which server is the master, by the word of most Sentinels. */
import * as v from 'valibot'
import { RedisAwayError } from './errors.ts'
import { type Link, openLink } from './link.ts'
import type { NodeTarget } from './node-client.ts'
import type { SessionOptions } from './session.ts'
import type { Address, RedisUrl } from './url.ts'

/** The reply of SENTINEL GET-MASTER-ADDR-BY-NAME; null for a name it doesn't watch. */
const MasterAddress = v.nullable(v.tuple([v.pipe(v.string(), v.minLength(1)), v.pipe(v.string(), v.digits())]))

/** Longest that Sentinels are waited for where no majority agrees sooner. */
const askMs = 700
/** A failover is noticed so soon, also where the old master keeps its connections. */
const watchEveryMs = 1_000

export interface MasterFinder {
  /** Rejects with RedisAwayError where no Sentinel answers, or none knows the name. */
  target(): Promise<NodeTarget>
  /** Calls `moved` when the master is another than the one of the last `target`. */
  watch(moved: () => void): void
  close(): void
}

export function sentinelFinder(
  where: Extract<RedisUrl, { kind: 'sentinel' }>,
  { ca, log }: { readonly ca: string | undefined; readonly log: SessionOptions['log'] },
): MasterFinder {
  const tls = where.tls ? { ca } : undefined
  const links = where.sentinels.map((at): Link => {
    const target = { at, ...where.sentinelCredentials, database: 0, tls }
    return openLink({ target: () => target, log, name: 'sentinel' })
  })
  const majority = Math.floor(links.length / 2) + 1
  let last: string | undefined
  let timer: NodeJS.Timeout | undefined

  function ask(): Promise<Address> {
    return new Promise((resolve, reject) => {
      const votes = new Map<string, { readonly address: Address; count: number }>()
      let open = links.length
      const decide = () => {
        clearTimeout(deadline)
        const [most] = [...votes.values()].sort((a, b) => b.count - a.count)
        if (most) resolve(most.address)
        else reject(new RedisAwayError('no Sentinel names a master', false))
      }
      const deadline = setTimeout(decide, askMs)
      for (const link of links) {
        void addressFrom(link, where.master).then((address) => {
          open--
          if (address) {
            const name = `${address.host} ${address.port}`
            const vote = votes.get(name) ?? { address, count: 0 }
            votes.set(name, vote)
            if (++vote.count >= majority) return decide()
          }
          if (open === 0) decide()
        })
      }
    })
  }

  return {
    async target() {
      const at = await ask()
      last = `${at.host} ${at.port}`
      return {
        at,
        username: where.username,
        password: where.password,
        database: where.database,
        tls,
        mustBeMaster: true,
      }
    },
    watch(moved) {
      timer ??= setInterval(() => {
        ask().then(
          ({ host, port }) => {
            if (last !== undefined && last !== `${host} ${port}`) moved()
          },
          // Without Sentinel the connections that there are go on.
          () => undefined,
        )
      }, watchEveryMs).unref()
    },
    close() {
      clearInterval(timer)
      for (const link of links) link.close()
    },
  }
}

/** Undefined where this Sentinel gives no answer. */
async function addressFrom(link: Link, master: string): Promise<Address | undefined> {
  try {
    const reply = v.parse(MasterAddress, await link.send(['SENTINEL', 'GET-MASTER-ADDR-BY-NAME', master]))
    return reply ? { host: reply[0], port: Number(reply[1]) } : undefined
  } catch {
    return undefined
  }
}
