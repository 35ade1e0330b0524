import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import { afterEach, describe, expect, test } from 'vitest'
import { type LogFields, type Logger, silentLogger } from '../logging.ts'
import { requestContext } from '../request-context.ts'
import { withAccessLog } from './access-log.ts'

const lines: LogFields[] = []
const log: Logger = { ...silentLogger, info: (fields) => void lines.push(fields), isLevelEnabled: () => true }
let server: Server | undefined

afterEach(() => {
  lines.length = 0
  server?.close()
})

/** Serves the request's id as its handler finds it, some turns of the event loop later. */
async function serve(trustedProxies: readonly string[]): Promise<string> {
  const fetch = withAccessLog(
    async () => {
      await new Promise((resolve) => setImmediate(resolve))
      return new Response(requestContext.getStore()?.requestId)
    },
    { log, clientAddress: () => 'somewhere', trustedProxies },
  )
  const made = createServer(getRequestListener(fetch as (request: Request, env: unknown) => Response))
  server = made
  await new Promise<void>((resolve) => made.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${(made.address() as AddressInfo).port}/some/path?access_token=secret`
}

async function idOf(url: string, given?: string): Promise<string> {
  const answer = await globalThis.fetch(url, given === undefined ? {} : { headers: { 'x-request-id': given } })
  return answer.text()
}

describe('the id of a request', () => {
  test('is made where nobody gave one, and differs from request to request', async () => {
    const url = await serve(['127.0.0.1'])
    const ids = [await idOf(url), await idOf(url)]
    expect(new Set(ids).size).toBe(2)
    expect(ids[0]).toMatch(/^[0-9a-f]{8}-1$/)
  })

  test('is taken from a trusted proxy', async () => {
    expect(await idOf(await serve(['127.0.0.0/8']), 'b0a1-77:edge.1')).toBe('b0a1-77:edge.1')
  })

  test('is not taken from anybody else', async () => {
    expect(await idOf(await serve(['10.0.0.0/8']), 'forged')).not.toBe('forged')
    expect(await idOf(await serve([]), 'forged')).not.toBe('forged')
  })

  test.each(['two words', 'x'.repeat(65), '{"a":1}', 'tab\there'])('is not %j, whoever says so', async (given) => {
    expect(await idOf(await serve(['127.0.0.1']), given)).toMatch(/^[0-9a-f]{8}-1$/)
  })

  test('stands in the line of the access log, which names no token', async () => {
    const url = await serve(['127.0.0.1'])
    const id = await idOf(url)
    await expect.poll(() => lines.length).toBe(1)
    expect(lines[0]).toMatchObject({ method: 'GET', path: '/some/path', status: 200, request_id: id })
    expect(JSON.stringify(lines)).not.toContain('secret')
  })

  test.each([
    ['/_matrix/client/v1/delayed_events/secret/send', '/_matrix/client/v1/delayed_events/…/send'],
    ['/_synapse/admin/v1/registration_tokens/secret', '/_synapse/admin/v1/registration_tokens/…'],
    ['/_synapse/admin/v1/registration_tokens/new', '/_synapse/admin/v1/registration_tokens/new'],
  ])('nor what opens something as a part of the path: %s', async (path, logged) => {
    const url = new URL(await serve([]))
    await idOf(`${url.origin}${path}`)
    await expect.poll(() => lines.length).toBe(1)
    expect(lines[0]).toMatchObject({ path: logged })
  })
})
