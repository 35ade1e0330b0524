/** Attachments as clients send and fetch them. */
import { webcrypto } from 'node:crypto'
import { expect, test } from 'vitest'
import { type Person, sdkServer } from './sdk-server.ts'

const server = sdkServer()

async function fetched(by: Person, mxc: string): Promise<Buffer> {
  const url = by.mxcUrlToHttp(mxc, undefined, undefined, undefined, false, true, true)
  const answer = await fetch(String(url), { headers: { Authorization: `Bearer ${by.getAccessToken()}` } })
  expect(answer.status).toBe(200)
  return Buffer.from(await answer.arrayBuffer())
}

test('client-server-api/#minstant-messaging an attachment is sent and fetched', async () => {
  const [alice, bob] = [await server.person('alice'), await server.person('bob')]
  const bytes = Buffer.from('a file of alice')
  const { content_uri } = await alice.uploadContent(bytes, { name: 'file.txt', type: 'text/plain' })
  expect(content_uri).toMatch(/^mxc:\/\/test\.local\/[A-Za-z0-9_-]+$/)
  expect((await fetched(bob, content_uri)).equals(bytes)).toBe(true)
})

test('client-server-api/#sending-encrypted-attachments an encrypted attachment is sent and decrypted', async () => {
  const [alice, bob] = [await server.person('carol'), await server.person('dave')]
  const plain = Buffer.from('for dave alone')
  const key = await webcrypto.subtle.generateKey({ name: 'AES-CTR', length: 256 }, true, ['encrypt', 'decrypt'])
  const counter = webcrypto.getRandomValues(new Uint8Array(16))
  counter.fill(0, 8)
  const algorithm = { name: 'AES-CTR', counter, length: 64 }
  const encrypted = Buffer.from(await webcrypto.subtle.encrypt(algorithm, key, plain))
  const { content_uri } = await alice.uploadContent(encrypted, { type: 'application/octet-stream' })
  const hash = Buffer.from(await webcrypto.subtle.digest('SHA-256', encrypted)).toString('base64')
  const { room_id } = await alice.createRoom({ invite: [bob.getUserId() ?? ''] })
  await bob.joinRoom(room_id)
  const file = {
    url: content_uri,
    v: 'v2',
    key: await webcrypto.subtle.exportKey('jwk', key),
    hashes: { sha256: hash },
  }
  const { event_id } = await alice.sendEvent(
    room_id,
    'm.room.message' as never,
    { msgtype: 'm.file', body: 'f', file } as never,
  )
  const event = await bob.fetchRoomEvent(room_id, event_id)
  const got = event.content?.file as typeof file
  const downloaded = await fetched(bob, got.url)
  expect(Buffer.from(await webcrypto.subtle.digest('SHA-256', downloaded)).toString('base64')).toBe(got.hashes.sha256)
  const imported = await webcrypto.subtle.importKey('jwk', got.key, 'AES-CTR', false, ['decrypt'])
  expect(Buffer.from(await webcrypto.subtle.decrypt(algorithm, imported, downloaded)).equals(plain)).toBe(true)
})
