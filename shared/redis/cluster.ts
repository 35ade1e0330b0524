/** Commands to a cluster: each goes to the master of its key's slot. What a node redirects was not done there, so it is sent
 *  on; what was lost is never sent again. */
import * as v from 'valibot'
import { firstKey, keySlot, slotCount } from './cluster-slots.ts'
import type { Commander, Outcome, RedisCommand, Reply } from './commander.ts'
import { RedisAwayError, RedisReplyError } from './errors.ts'
import { type Link, openLink } from './link.ts'
import type { NodeTarget } from './node-client.ts'
import type { SessionOptions } from './session.ts'
import { transaction } from './single.ts'
import type { Address, RedisUrl } from './url.ts'

/** An entry of CLUSTER SLOTS: first and last slot, the master, then its replicas. */
const SlotRange = v.tupleWithRest(
  [v.number(), v.number(), v.tupleWithRest([v.nullable(v.string()), v.number()], v.unknown())],
  v.unknown(),
)
const ClusterSlots = v.array(SlotRange)

const redirectsMax = 5
/** A slot that is being moved asks for patience. */
const tryAgainMs = 20
/** The map is asked for at most so often while nodes are away. */
const refreshEveryMs = 200

export interface Cluster {
  readonly commander: Commander
  /** Some node that may be there, another at each call: messages reach all nodes. */
  anyNode(): NodeTarget
}

export function openCluster(
  where: Extract<RedisUrl, { kind: 'cluster' }>,
  { ca, log }: { readonly ca: string | undefined; readonly log: SessionOptions['log'] },
): Cluster {
  const links = new Map<string, { readonly link: Link; readonly at: Address }>()
  const owners: (string | undefined)[] = new Array(slotCount)
  let refreshing: Promise<void> | undefined
  let refreshedAt = Number.NEGATIVE_INFINITY
  let turn = 0

  const target = (at: Address): NodeTarget => ({
    at,
    username: where.username,
    password: where.password,
    database: 0,
    tls: where.tls ? { ca } : undefined,
  })

  function linkTo(at: Address): Link {
    const name = `${at.host} ${at.port}`
    let node = links.get(name)
    if (!node) {
      node = { at, link: openLink({ target: () => target(at), log, name: 'cluster' }) }
      links.set(name, node)
    }
    return node.link
  }

  /** Asks the nodes that are known, then the seeds, for who has which slots. */
  function refresh(): Promise<void> {
    refreshing ??= (async () => {
      const nodes = new Map([...links.values()].map(({ at }) => [`${at.host} ${at.port}`, at]))
      for (const seed of where.seeds) nodes.set(`${seed.host} ${seed.port}`, seed)
      let failure: unknown = new RedisAwayError('no node answers', false)
      try {
        // All at once: those that are dead would cost seconds each.
        const ranges = await Promise.any(
          [...nodes.values()].map(async (at) => ({
            at,
            ranges: assigned(v.parse(ClusterSlots, await linkTo(at).send(['CLUSTER', 'SLOTS']))),
          })),
        ).catch((error: unknown) => {
          failure = error instanceof AggregateError ? error.errors[0] : error
          return undefined
        })
        if (!ranges) throw failure instanceof RedisAwayError ? failure : new RedisAwayError('no node answers', false)
        adopt(ranges.ranges, ranges.at)
      } finally {
        refreshedAt = performance.now()
        refreshing = undefined
      }
    })()
    return refreshing
  }

  function adopt(ranges: v.InferOutput<typeof ClusterSlots>, asked: Address): void {
    owners.fill(undefined)
    const named = new Set(where.seeds.map(({ host, port }) => `${host} ${port}`))
    for (const [first, last, [host, port]] of ranges) {
      // A node that doesn't know its own address leaves it out.
      const at = { host: host === null || host === '' || host === '?' ? asked.host : host, port }
      linkTo(at)
      named.add(`${at.host} ${at.port}`)
      owners.fill(`${at.host} ${at.port}`, first, last + 1)
    }
    for (const [name, { link }] of links) {
      if (named.has(name)) continue
      link.close()
      links.delete(name)
    }
  }

  /** After a failure: in the background, not too often. */
  function refreshLater(): void {
    if (refreshing || performance.now() - refreshedAt < refreshEveryMs) return
    // Its failure shows in the commands that follow.
    refresh().catch(() => undefined)
  }

  function ownerOf(slot: number | undefined): Link | undefined {
    const name = slot === undefined ? owners.find((owner) => owner !== undefined) : owners[slot]
    return name === undefined ? undefined : links.get(name)?.link
  }

  async function found(slot: number | undefined): Promise<Link> {
    const link = ownerOf(slot)
    if (link) return link
    await refresh()
    const now = ownerOf(slot)
    if (!now) throw new RedisAwayError('no node has this slot', false)
    return now
  }

  /** Runs it on the slot's owner and follows redirections; `run` may get another link to begin with ASKING. */
  async function routed<T>(slot: number | undefined, run: (link: Link, asking: boolean) => Promise<T>): Promise<T> {
    let link = ownerOf(slot) ?? (await found(slot))
    let asking = false
    for (let redirects = 0; ; redirects++) {
      try {
        return await run(link, asking)
      } catch (error) {
        if (error instanceof RedisAwayError) refreshLater()
        if (!(error instanceof RedisReplyError)) throw error
        const [, kind, at] =
          /\b(MOVED|ASK|TRYAGAIN|CLUSTERDOWN|LOADING|READONLY)\b(?: \d+ (\S+))?/.exec(error.message) ?? []
        if (kind === undefined) throw error
        if (redirects >= redirectsMax || kind === 'CLUSTERDOWN' || kind === 'LOADING' || kind === 'READONLY') {
          refreshLater()
          throw new RedisAwayError(`the cluster answers ${kind}`, false)
        }
        asking = kind === 'ASK'
        if (kind === 'TRYAGAIN') await new Promise((resolve) => setTimeout(resolve, tryAgainMs))
        else if (asking) link = linkTo(addressIn(at, link, links))
        else {
          const to = addressIn(at, link, links)
          link = linkTo(to)
          if (slot !== undefined) owners[slot] = `${to.host} ${to.port}`
          refreshLater()
        }
      }
    }
  }

  function send(command: RedisCommand): Promise<Reply> {
    if (/^FLUSH(?:ALL|DB)$/i.test(command[0])) return everywhere(command)
    const key = firstKey(command)
    return routed(key === undefined ? undefined : keySlot(key), async (link, asking) => {
      if (!asking) return link.send(command)
      const [, outcome] = await link.sendTogether([['ASKING'], command])
      if (!outcome || 'error' in outcome) throw new RedisReplyError(outcome?.error ?? 'ERR no answer')
      return outcome.result
    })
  }

  async function everywhere(command: RedisCommand): Promise<Reply> {
    await found(undefined)
    const masters = [...new Set(owners)].flatMap((name) => (name === undefined ? [] : (links.get(name)?.link ?? [])))
    await Promise.all(masters.map((link) => link.send(command)))
    return 'OK'
  }

  async function transact(commands: readonly RedisCommand[]): Promise<Outcome[]> {
    const slots = new Set(commands.flatMap((command) => firstKey(command) ?? []).map(keySlot))
    if (slots.size > 1) throw new RedisReplyError('CROSSSLOT the keys of a transaction lie in several slots')
    const [slot] = slots
    // ASKING holds for one command alone, so a transaction waits until its slot has moved: as with TRYAGAIN.
    return routed(slot, (link) => transaction(link, commands))
  }

  return {
    commander: {
      send,
      async pipeline(commands) {
        const settled = await Promise.allSettled(commands.map(send))
        return settled.map((result): Outcome => {
          if (result.status === 'fulfilled') return { result: result.value }
          if (result.reason instanceof RedisReplyError) return { error: result.reason.message }
          throw result.reason
        })
      },
      transaction: transact,
      async close() {
        for (const { link } of links.values()) link.close()
      },
    },
    anyNode() {
      const nodes = links.size > 0 ? [...links.values()].map(({ at }) => at) : where.seeds
      return target(nodes[turn++ % nodes.length]!)
    },
  }
}

/** A node that just started, or was cast out, answers that nobody has any slot: it is no help. */
function assigned(ranges: v.InferOutput<typeof ClusterSlots>): v.InferOutput<typeof ClusterSlots> {
  if (ranges.length === 0) throw new RedisAwayError('the cluster has no slots', false)
  return ranges
}

/** `host:port` of a redirection; without a host it is that of the node which redirects. */
function addressIn(
  text: string | undefined,
  from: Link,
  links: ReadonlyMap<string, { readonly link: Link; readonly at: Address }>,
): Address {
  const match = /^(.*):(\d{1,5})(?:@.*)?$/.exec(text ?? '')
  if (!match) throw new RedisAwayError('the cluster redirects to nowhere', false)
  const own = [...links.values()].find(({ link }) => link === from)?.at.host
  const host = match[1] === '' || match[1] === '?' ? own : match[1]
  if (host === undefined) throw new RedisAwayError('the cluster redirects to nowhere', false)
  return { host, port: Number(match[2]) }
}
