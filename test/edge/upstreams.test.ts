/** Which handler gets a request: by its key, by load, by health. */
import { describe, expect, test } from 'vitest'
import { Upstreams } from '../../functions/edge/upstreams.ts'

const urls = (count: number) => Array.from({ length: count }, (_, i) => `http://10.0.0.${i + 1}:8008`)
const keys = Array.from({ length: 3_000 }, (_, i) => `!room${i}:example.org`)
const placed = (upstreams: Upstreams) => keys.map((key) => upstreams.pick(key, [])?.url)

describe('by key', () => {
  test('each key has one handler, whatever the order of the list', () => {
    const [one, other] = [new Upstreams({ urls: urls(5) }), new Upstreams({ urls: urls(5).reverse() })]
    expect(placed(one)).toEqual(placed(other))
  })

  test('handlers get equal shares', () => {
    const counts = Map.groupBy(placed(new Upstreams({ urls: urls(5) })), (url) => url)
    expect(counts.size).toBe(5)
    for (const got of counts.values()) expect(got.length).toBeGreaterThan(keys.length / 5 / 1.3)
  })

  test('one handler more takes only what becomes its own; one less gives away only what it had', () => {
    const upstreams = new Upstreams({ urls: urls(5) })
    const before = placed(upstreams)
    upstreams.set(urls(6))
    const after = placed(upstreams)
    const moved = keys.filter((_, i) => before[i] !== after[i])
    expect(moved.length).toBeLessThan(keys.length / 4)
    keys.forEach((_, i) => {
      if (before[i] !== after[i]) expect(after[i]).toBe('http://10.0.0.6:8008')
    })
    upstreams.set(urls(5))
    expect(placed(upstreams)).toEqual(before)
  })

  test('a handler with far more than its share under way gets no more', () => {
    const upstreams = new Upstreams({ urls: urls(4) })
    const usual = upstreams.pick('!hot:x', [])
    if (usual) usual.load = 500
    expect(upstreams.pick('!hot:x', [])?.url).not.toBe(usual?.url)
  })
})

describe('health', () => {
  test('who failed is left alone for a while that grows, and is back at once when it answers', () => {
    let nowMs = 0
    const upstreams = new Upstreams({ urls: urls(2), nowMs: () => nowMs })
    const first = upstreams.pick('key', [])
    if (!first) throw new Error('there is one')
    upstreams.failed(first)
    expect(upstreams.pick('key', [])).not.toBe(first)
    nowMs = 251
    expect(upstreams.pick('key', [])).toBe(first)
    upstreams.failed(first)
    nowMs += 251
    expect(upstreams.pick('key', [])).not.toBe(first)
    upstreams.succeeded(first)
    expect(upstreams.pick('key', [])).toBe(first)
  })

  test('where all failed, all are tried', () => {
    const upstreams = new Upstreams({ urls: urls(2) })
    for (const upstream of upstreams.all) upstreams.failed(upstream)
    const first = upstreams.pick(undefined, [])
    expect(first).toBeDefined()
    expect(upstreams.pick(undefined, first ? [first] : [])).toBeDefined()
    expect(upstreams.pick(undefined, upstreams.all)).toBeUndefined()
  })

  test('what came after the first try is tried too', () => {
    const upstreams = new Upstreams({ urls: urls(1) })
    const gone = upstreams.all
    upstreams.set(['http://10.0.0.9:8008'])
    expect(upstreams.pick(undefined, gone)?.url).toBe('http://10.0.0.9:8008')
  })
})
