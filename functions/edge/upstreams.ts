/** The handlers of one role as the edge sees them, and which of them gets a request. */

export interface Upstream {
  /** Such as `http://10.0.0.5:8008`, without a slash at its end. */
  readonly url: string
  /** Requests under way. */
  load: number
  /** Failures in a row. */
  failures: number
  /** Left alone until then, on the monotonic clock; 0 when it is well. */
  awayUntilMs: number
  readonly hash: number
  /** What its Host header has to say, where it is reached by a name: what stands behind that name may route by it. */
  readonly host: string | undefined
}

/** A request meets the handler of its key unless that one has this many times the mean under way, and this many more. */
const overload = { times: 2, requests: 32 }
const awayMs = { first: 250, longest: 5_000 }

export class Upstreams {
  #all: readonly Upstream[] = []
  readonly #nowMs: () => number
  #waiting: (() => void)[] = []

  constructor(options: { readonly urls?: readonly string[]; readonly nowMs?: () => number } = {}) {
    this.#nowMs = options.nowMs ?? (() => performance.now())
    this.set(options.urls ?? [])
  }

  get all(): readonly Upstream[] {
    return this.#all
  }

  /** From now on these and no others; what is known of those that stay is kept. */
  set(urls: readonly string[]): void {
    const known = new Map(this.#all.map((upstream) => [upstream.url, upstream]))
    this.#all = [...new Set(urls.map((url) => url.replace(/\/+$/, '')))].map(
      (url) => known.get(url) ?? { url, load: 0, failures: 0, awayUntilMs: 0, hash: hashOf(url), host: nameOf(url) },
    )
    if (this.#all.length > 0) for (const told of this.#waiting.splice(0)) told()
  }

  /** Undefined when all were tried, or when there is none. With a key: the one that the key falls on among those that are
   *  well, so that one handler more or less moves only its own share of keys. Without: the less busy of two. */
  pick(stickyKey: string | undefined, tried: readonly Upstream[]): Upstream | undefined {
    const all = this.#all
    const first = all[0]
    if (first === undefined) return undefined
    if (all.length === 1) return tried.includes(first) ? undefined : first
    const nowMs = this.#nowMs()
    const well = all.filter((upstream) => upstream.awayUntilMs <= nowMs && !tried.includes(upstream))
    // Nobody is well: who knows, perhaps it was the edge that was cut off.
    const candidates = well.length > 0 ? well : all.filter((upstream) => !tried.includes(upstream))
    return stickyKey === undefined ? lessBusy(candidates) : this.#byKey(candidates, hashOf(stickyKey))
  }

  failed(upstream: Upstream): void {
    const ms = Math.min(awayMs.first * 2 ** upstream.failures, awayMs.longest)
    upstream.failures = Math.min(upstream.failures + 1, 16)
    upstream.awayUntilMs = this.#nowMs() + ms
  }

  succeeded(upstream: Upstream): void {
    if (upstream.failures === 0) return
    upstream.failures = 0
    upstream.awayUntilMs = 0
  }

  /** Resolves when there is one, or after `ms`. */
  async appear(ms: number): Promise<void> {
    if (this.#all.length > 0) return
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, ms)
    this.#waiting.push(resolve)
    await promise
    clearTimeout(timer)
    this.#waiting = this.#waiting.filter((told) => told !== resolve)
  }

  get waiting(): number {
    return this.#waiting.length
  }

  /** Rendezvous hashing: each handler draws a number for the key, the largest wins. */
  #byKey(candidates: readonly Upstream[], keyHash: number): Upstream | undefined {
    let total = 0
    for (const upstream of this.#all) total += upstream.load
    const loadMax = (total / this.#all.length) * overload.times + overload.requests
    let best: Upstream | undefined
    let bestScore = -1
    for (const upstream of candidates) {
      const score = mixed(upstream.hash ^ keyHash)
      if (score > bestScore && upstream.load <= loadMax) {
        best = upstream
        bestScore = score
      }
    }
    return best ?? lessBusy(candidates)
  }
}

/** Host and port of a URL with a name; undefined for an address. */
function nameOf(url: string): string | undefined {
  const { hostname, host } = new URL(url)
  return /^(?:\[.*\]|[\d.]+)$/.test(hostname) ? undefined : host
}

function lessBusy(candidates: readonly Upstream[]): Upstream | undefined {
  const one = candidates[Math.floor(Math.random() * candidates.length)]
  const other = candidates[Math.floor(Math.random() * candidates.length)]
  return one && other && other.load < one.load ? other : one
}

/** FNV-1a. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return mixed(hash)
}

/** The last steps of MurmurHash3: every bit of the input moves half of the output's. */
function mixed(hash: number): number {
  let h = hash
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}
