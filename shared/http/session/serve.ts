/** The handler's side of sessions: requests that come together on one connection are answered like all others. */
import type { IncomingMessage, Server } from 'node:http'
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { Peer } from '../request-info.ts'
import { type AnswerPath, CarriedAnswer, type CarriedSocket, carriedRequest } from './carried.ts'
import { FrameReader, FrameWriter, kinds, messageOf, requestBytesMax, sessionPath, sessionProtocol } from './frames.ts'

export interface Sessions {
  /** Takes no further sessions, and asks for no further requests on those there are: the other side ends them when what it
   *  sent before is answered. */
  leave(): void
  /** Ends what is left, at once. */
  cut(): void
}

/** Of answers that the edge does not take; those that go on wait for their windows long before. */
const unsentBytesMax = 256 * 1024 * 1024
const keepAliveMs = 30_000

/** For `shouldUpgradeCallback`: whoever asks for another protocol is answered in this one. */
export function asksForSession({ url, headers }: IncomingMessage): boolean {
  return url === sessionPath && headers.upgrade === sessionProtocol
}

/** Sessions are opened for trusted proxies alone: what they say of their clients is believed. */
export function serveSessions(server: Server, isTrusted: (peer: Peer) => boolean): Sessions {
  const open = new Set<Session>()
  let leaving = false
  server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
    socket.on('error', () => socket.destroy())
    if (leaving || !isTrusted(request)) {
      socket.end(
        `HTTP/1.1 ${leaving ? '503 Leaving' : '403 Forbidden'}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`,
      )
      return
    }
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${sessionProtocol}\r\n\r\n`)
    const session = openSession(server, socket, head)
    open.add(session)
    socket.once('close', () => open.delete(session))
  })
  return {
    leave() {
      leaving = true
      for (const session of open) session.leave()
    },
    cut() {
      for (const session of open) session.cut()
    },
  }
}

interface Session {
  leave(): void
  cut(): void
}

function openSession(server: Server, socket: Socket, head: Buffer): Session {
  const answers = new Map<number, CarriedAnswer>()
  const carriedSocket: CarriedSocket = {
    remoteAddress: socket.remoteAddress,
    encrypted: (socket as Partial<TLSSocket>).encrypted === true,
    destroyed: true,
    readable: false,
  }
  const writer = new FrameWriter((bytes) => {
    if (socket.writable) socket.write(bytes)
    if (socket.writableLength > unsentBytesMax) socket.destroy()
  })
  const reader = new FrameReader(requestBytesMax, (id, kind, content) => {
    switch (kind) {
      case kinds.request:
        request(id, content)
        break
      case kinds.more:
        if (content.length === 4) answers.get(id)?.taken(content.readUInt32BE(0))
        break
      case kinds.gone:
        answers.get(id)?.gone()
        answers.delete(id)
        break
      case kinds.ping:
        writer.put(0, kinds.pong)
        break
    }
  })

  function request(id: number, content: Buffer): void {
    const message = messageOf(content)
    const incoming = message && carriedRequest(message.head, message.body, carriedSocket)
    if (!incoming || answers.has(id)) {
      socket.destroy()
      return
    }
    const outgoing = new CarriedAnswer(incoming.method ?? '', pathOf(id))
    answers.set(id, outgoing)
    server.emit('request', incoming, outgoing)
  }

  function pathOf(id: number): AnswerPath {
    const over = () => answers.delete(id)
    return {
      whole(head, body) {
        writer.put(id, kinds.answer, head, body)
        over()
      },
      head: (head) => writer.put(id, kinds.head, head),
      chunk: (bytes) => writer.put(id, kinds.chunk, undefined, bytes),
      end() {
        writer.put(id, kinds.end)
        over()
      },
      broken() {
        writer.put(id, kinds.broken)
        over()
      },
    }
  }

  function take(bytes: Buffer): void {
    if (!reader.read(bytes)) socket.destroy()
  }

  socket.setNoDelay(true)
  socket.setTimeout(0)
  // A machine that is gone says so no other way: nothing is sent on a session that nobody uses.
  socket.setKeepAlive(true, keepAliveMs)
  socket.on('data', take)
  socket.on('end', () => socket.end())
  socket.on('close', () => {
    const left = [...answers.values()]
    answers.clear()
    for (const answer of left) answer.gone()
  })
  if (head.length > 0) take(head)
  return { leave: () => writer.put(0, kinds.leaving), cut: () => socket.destroy() }
}
