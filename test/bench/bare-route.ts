/** The least that any route costs here: Hono on Node, and an answer of the size of an empty sync's. */
import type { AddressInfo } from 'node:net'
import { serve } from '@hono/node-server'
import { Hono } from 'hono'

const app = new Hono()
const body = JSON.stringify({
  next_batch: 's1_1000_1000_1000_1795476969814_1795476970148_1000',
  filler: 'x'.repeat(60),
})
app.get('/_matrix/client/v3/sync', () => new Response(body, { headers: { 'Content-Type': 'application/json' } }))
const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }, () => {
  process.send?.((server.address() as AddressInfo).port)
})
