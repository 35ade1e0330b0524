/** Every operation of the client-server API is served, under the prefix that the specification gives it; but for those that
 *  are named as left for later.
 *
 *  What the specification says is in client-server.json, made by extract.ts of version 1.19's sources: its npm package,
 *  @matrix-org/spec, has a list of emoji and no description of the API (in 1.16.0, the newest). */
import { describe, expect, test } from 'vitest'
import { clientRoutes } from '../../functions/client/routes.ts'
import { mediaRoutes } from '../../functions/media/routes.ts'
import { syncRoutes } from '../../functions/sync/routes.ts'
import type { Method } from '../../shared/http/route.ts'
import { createRouter } from '../../shared/http/router.ts'
import { corrected } from './corrections.ts'
import { later } from './later.ts'
import { readSpecification } from './specification.ts'

const specification = corrected(readSpecification())
const routes = createRouter<string>()
for (const { method, path } of [...clientRoutes, ...mediaRoutes, ...syncRoutes]) routes.add(method, path, path)
const forLater = new Set(Object.values(later).flat())

describe(`client-server API ${specification.version}`, () => {
  test('all of it is there', () => expect(Object.keys(specification.operations).length).toBe(166))
  test.each(Object.entries(specification.operations))('%s', (id, { method, path }) => {
    const example = path.replace(/\{\w+\}/g, '!some%2Fthing%3Aother.example')
    const served = routes.find(method as Method, example).found === 'endpoint'
    if (forLater.has(id)) expect(served, 'it is served: take it off the list in later.ts').toBe(false)
    else expect(served, `${method} ${path}`).toBe(true)
  })
  test('what is left for later is of the specification, and named once', () => {
    const named = Object.values(later).flat()
    expect(named.filter((id) => !Object.hasOwn(specification.operations, id))).toEqual([])
    expect(named.length).toBe(forLater.size)
  })
})
