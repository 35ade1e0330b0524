/** The edge's side of sessions: one connection to each handler, on which requests and answers travel side by side. Most of
 *  what a proxied request costs is writing it to a connection of its own; here all that comes up in one turn of the event
 *  loop takes one write. */
import { connect, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import {
  answerBytesMax,
  FrameReader,
  FrameWriter,
  kinds,
  messageOf,
  sessionPath,
  sessionProtocol,
} from '../../shared/http/session/frames.ts'
import { answerHeaderGoesOn } from './forwarded-headers.ts'

/** Hears of one request's answer. */
export interface AnswerSink {
  /** All of it. `headers`: name, value, name, value. */
  whole(status: number, headers: readonly string[], body: Buffer): void
  /** Its beginning, when more of it follows; then chunks, then the end. */
  head(status: number, headers: readonly string[]): void
  chunk(bytes: Buffer): void
  end(): void
  /** Once, in place of what is missing. `reached`: the handler can have seen the request. */
  failed(error: Error, reached: boolean): void
  /** This handler takes no sessions, and nothing was sent: the request has to go alone. */
  refused(): void
}

export interface Sent {
  /** The client is gone; nothing further is heard. */
  giveUp(): void
  /** So many bytes of the answer were passed on. */
  taken(bytes: number): void
}

export interface HandlerSessions {
  /** Undefined where the handler is known to take no sessions. `head`: method, target, names and values of headers, a line
   *  each. */
  send(url: string, head: string, body: Buffer | undefined, sink: AnswerSink): Sent | undefined
  /** Drops the sessions with handlers that are no more, once they have answered. */
  keepOnly(urls: ReadonlySet<string>): void
  close(): void
}

const limits = {
  openMs: 3_000,
  /** A connection on which nothing comes for so long, while answers are waited for, is asked whether it is there, and given
   *  up when that is not answered in the same time again. Of handlers that hang, their silence elsewhere tells sooner. */
  silenceMs: 15_000,
  /** A handler that took no session is asked again after that: it may be another by then. */
  refusedMs: 60_000,
  headBytes: 16 * 1024,
  /** Waits to be written: what goes beyond goes alone, and waits where its client sees it. */
  unsentBytes: 16 * 1024 * 1024,
} as const
/** Longer than a handler takes to end in good order. */
const lastAnswersMs = 15_000

type Session = ReturnType<typeof openSession>

export function handlerSessions(options: { readonly lastAnswersMs?: number | undefined } = {}): HandlerSessions {
  const sessions = new Map<string, Session>()
  const refusedUntilMs = new Map<string, number>()

  function sessionTo(url: string): Session {
    const session = openSession(url, {
      over() {
        if (sessions.get(url) === session) sessions.delete(url)
      },
      refused: () => refusedUntilMs.set(url, performance.now() + limits.refusedMs),
    })
    sessions.set(url, session)
    return session
  }

  return {
    send(url, head, body, sink) {
      const known = sessions.get(url)
      if (known) return known.send(head, body, sink)
      const until = refusedUntilMs.get(url)
      if (until !== undefined) {
        if (performance.now() < until) return undefined
        refusedUntilMs.delete(url)
      }
      return sessionTo(url).send(head, body, sink)
    },
    keepOnly(urls) {
      for (const [url, session] of sessions) {
        if (urls.has(url)) continue
        session.leave()
        // Who signed off has answered by then. Who was struck off, since it hangs, never will: its requests fail, and
        // those that may be repeated go elsewhere.
        setTimeout(() => session.cut('the handler is gone'), options.lastAnswersMs ?? lastAnswersMs).unref()
      }
      for (const url of refusedUntilMs.keys()) if (!urls.has(url)) refusedUntilMs.delete(url)
    },
    close() {
      for (const session of [...sessions.values()]) session.cut('the edge ends')
    },
  }
}

function openSession(url: string, told: { over(): void; refused(): void }) {
  const sinks = new Map<number, AnswerSink>()
  const socket = connectTo(url)
  let lastId = 0
  let isOpen = false
  let isOver = false
  let leaving = false
  let heardMs = performance.now()
  let asked = false
  let head: Buffer | undefined
  let failure: Error | undefined

  const writer = new FrameWriter((bytes) => {
    if (socket.writable) socket.write(bytes)
  })
  /** Until it is open, what is sent waits here. */
  let early: { readonly head: string; readonly body: Buffer | undefined; readonly id: number }[] = []

  const reader = new FrameReader(answerBytesMax, (id, kind, content) => {
    const sink = sinks.get(id)
    switch (kind) {
      case kinds.answer:
      case kinds.head: {
        if (!sink) return
        const message = messageOf(content)
        const top = message && topOf(message.head)
        if (!top) return cut('an answer is garbled')
        if (kind === kinds.answer) {
          forget(id)
          sink.whole(top.status, top.headers, message.body)
        } else sink.head(top.status, top.headers)
        return
      }
      case kinds.chunk:
        sink?.chunk(content)
        return
      case kinds.end:
        forget(id)
        sink?.end()
        return
      case kinds.broken:
        forget(id)
        sink?.failed(new Error('the answer broke off'), true)
        return
      case kinds.leaving:
        leave()
        return
    }
  })

  function forget(id: number): void {
    sinks.delete(id)
    if (leaving && sinks.size === 0) socket.end()
  }

  /** Sends nothing further; ends when all is answered. */
  function leave(): void {
    leaving = true
    over()
    if (sinks.size === 0) {
      writer.flush()
      socket.end()
    }
  }

  function over(): void {
    if (isOver) return
    isOver = true
    told.over()
  }

  function cut(why: string): void {
    failure ??= new Error(why)
    socket.destroy()
  }

  function greet(chunk: Buffer): void {
    head = head ? Buffer.concat([head, chunk]) : chunk
    const end = head.indexOf('\r\n\r\n')
    if (end < 0) {
      if (head.length > limits.headBytes) cut('the answer has too long a head')
      return
    }
    clearTimeout(opening)
    if (!/^HTTP\/1\.1 101 /.test(head.toString('latin1', 0, 13))) {
      over()
      told.refused()
      const turnedAway = early
      early = []
      const alone = turnedAway.map(({ id }) => sinks.get(id))
      sinks.clear()
      socket.destroy()
      for (const sink of alone) sink?.refused()
      return
    }
    isOpen = true
    const rest = head.subarray(end + 4)
    head = undefined
    for (const request of early) writer.put(request.id, kinds.request, request.head, request.body)
    early = []
    if (rest.length > 0) take(rest)
  }

  function take(chunk: Buffer): void {
    if (!reader.read(chunk)) cut('an answer is garbled')
  }

  const opening = setTimeout(() => cut('no connection in time'), limits.openMs)
  const watching = setInterval(() => {
    if (sinks.size === 0 || !isOpen || performance.now() - heardMs < limits.silenceMs) return
    if (asked) return cut('the handler is silent')
    asked = true
    writer.put(0, kinds.ping)
  }, limits.silenceMs)
  watching.unref()

  socket.setNoDelay(true)
  const { host } = new URL(url)
  socket.write(
    `GET ${sessionPath} HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: ${sessionProtocol}\r\n\r\n`,
  )
  socket.on('data', (chunk: Buffer) => {
    heardMs = performance.now()
    asked = false
    if (isOpen) take(chunk)
    else greet(chunk)
  })
  socket.on('error', (error) => {
    failure ??= error
  })
  socket.on('end', () => socket.destroy())
  socket.on('close', () => {
    clearTimeout(opening)
    clearInterval(watching)
    over()
    const left = [...sinks.values()]
    sinks.clear()
    for (const sink of left) sink.failed(failure ?? new Error('the connection was closed'), isOpen)
  })

  return {
    send(requestHead: string, body: Buffer | undefined, sink: AnswerSink): Sent | undefined {
      if (socket.writableLength > limits.unsentBytes) return undefined
      lastId = (lastId % 0xffff_fffe) + 1
      const id = lastId
      if (sinks.size === 0) heardMs = performance.now()
      sinks.set(id, sink)
      if (isOpen) writer.put(id, kinds.request, requestHead, body)
      else early.push({ id, head: requestHead, body })
      return {
        giveUp() {
          if (!sinks.has(id)) return
          if (isOpen) writer.put(id, kinds.gone)
          else early = early.filter((each) => each.id !== id)
          forget(id)
        },
        taken(bytes) {
          if (!sinks.has(id)) return
          const count = Buffer.allocUnsafe(4)
          count.writeUInt32BE(bytes)
          writer.put(id, kinds.more, undefined, count)
        },
      }
    },
    leave,
    cut,
  }
}

function connectTo(url: string): Socket {
  const { protocol, hostname, port } = new URL(url)
  const host = hostname.replace(/^\[|\]$/g, '')
  return protocol === 'https:'
    ? connectTls({ host, port: Number(port || 443), servername: host })
    : connect({ host, port: Number(port || 80) })
}

interface Top {
  readonly status: number
  readonly headers: readonly string[]
}

/** Nearly all answers have one of few heads, once their lengths are left aside. */
const knownTops = new Map<string, Top>()
const knownTopsMax = 1_000

/** The status, and the headers that go on. */
function topOf(text: string): Top | undefined {
  const known = knownTops.get(text)
  if (known) return known
  const [statusText = '', ...lines] = text.split('\n')
  const status = Number(statusText)
  if (!(Number.isInteger(status) && status >= 200 && status <= 599) || lines.length % 2 !== 0) return undefined
  let connection: string | undefined
  for (let i = 0; i < lines.length; i += 2) if (lines[i]?.toLowerCase() === 'connection') connection = lines[i + 1]
  const headers: string[] = []
  for (let i = 0; i < lines.length; i += 2) {
    const name = lines[i] ?? ''
    if (answerHeaderGoesOn(name.toLowerCase(), connection)) headers.push(name, lines[i + 1] ?? '')
  }
  const top = { status, headers }
  if (/\ncontent-length\n/i.test(text)) return top
  if (knownTops.size >= knownTopsMax) knownTops.clear()
  knownTops.set(text, top)
  return top
}
