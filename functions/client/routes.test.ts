import { Hono } from 'hono'
import { expect, test } from 'vitest'
import { type MountContext, mount } from '../../shared/http/mount.ts'
import type { ClientDeps } from './deps.ts'
import { clientRoutes } from './routes.ts'

test('no path is declared twice', () => {
  // Mounting asks for nothing of the context; it throws for a second route of one method and path.
  expect(() => mount(new Hono(), clientRoutes, {} as MountContext<ClientDeps>)).not.toThrow()
})

test.each(clientRoutes.map((route) => [`${route.method} ${route.path}`, route] as const))('%s', (_, route) => {
  // The last two are pages, at the paths that links of Synapse's mails and its clients know.
  expect(route.path).toMatch(
    /^\/(_matrix\/client\/|_synapse\/admin\/|\.well-known\/matrix\/|_synapse\/client\/|_matrix\/consent$)/,
  )
  expect(route.spec).not.toBe('')
  const names = route.path.match(/(?<=\/:)[^/]+/g) ?? []
  expect(new Set(names).size).toBe(names.length)
  // A parameter that no schema names would reach no handler.
  if (names.length > 0) expect(route.params).toBeDefined()
})
