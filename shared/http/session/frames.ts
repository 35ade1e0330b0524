/** How requests travel together on one connection from the edge to a handler. `GET /_ganglion/requests` with
 *  `Upgrade: ganglion-requests` opens a session; then both sides send frames, in any order of answers, so that all that comes
 *  up in one turn of the event loop takes one write.
 *
 *  A frame is the length of what follows it (4 bytes, big-endian), the request's number (4), its kind (1), and its content. */

export const sessionPath = '/_ganglion/requests'
export const sessionProtocol = 'ganglion-requests'

/** From the edge: `request` (a message, whole), `gone` (its client left), `more` (so many bytes of the answer were taken: 4
 *  bytes). From a handler: `answer` (a message, whole), `head` (a message that goes on), `chunk`, `end`, `broken` (there will
 *  be no end), `leaving` (of number 0: send no further requests). Both: `ping`, answered with `pong`. */
export const kinds = {
  request: 1,
  gone: 2,
  more: 3,
  answer: 4,
  head: 5,
  chunk: 6,
  end: 7,
  broken: 8,
  leaving: 9,
  ping: 10,
  pong: 11,
} as const
export type Kind = (typeof kinds)[keyof typeof kinds]

/** Bytes of an answer that may be on their way to a client, untaken; beyond it the handler waits. */
export const windowBytes = 256 * 1024
/** Larger pieces are cut: no answer holds up the others for long. */
export const chunkBytes = 64 * 1024
/** Of a request, which is held whole. */
export const requestBytesMax = 160 * 1024
/** Of an answer's frame: a chunk and a head. */
export const answerBytesMax = 256 * 1024

/** Turns of the event loop that may bring more before what there is goes out. */
const turnsMax = 4
const prefixBytes = 9
const afterLength = 5

type Content = string | Uint8Array

/** Gathers the frames of one turn and gives them to `write` as one piece. */
export class FrameWriter {
  readonly #write: (bytes: Buffer) => void
  /** What was put, in turn: number and kind, the head as latin1 or undefined, the body. */
  #numbers: number[] = []
  #heads: (string | undefined)[] = []
  #bodies: (Content | undefined)[] = []
  #lengths: number[] = []
  #total = 0
  #seen = 0
  #turns = 0

  constructor(write: (bytes: Buffer) => void) {
    this.#write = write
  }

  /** `head`, of Latin-1, is given where the kind is a message; strings of bodies are UTF-8. */
  put(id: number, kind: Kind, head?: string, body?: Content): void {
    if (this.#total === 0) setImmediate(this.#flushWhenStill)
    const bodyLength = body === undefined ? 0 : typeof body === 'string' ? Buffer.byteLength(body) : body.length
    const length = afterLength + (head === undefined ? 0 : 4 + head.length) + bodyLength
    this.#numbers.push(id, kind)
    this.#heads.push(head)
    this.#bodies.push(body)
    this.#lengths.push(length)
    this.#total += 4 + length
  }

  get isEmpty(): boolean {
    return this.#total === 0
  }

  /** As long as each turn brings more, a few turns go out as one. */
  readonly #flushWhenStill = (): void => {
    if (this.#total === this.#seen || ++this.#turns >= turnsMax) this.flush()
    else {
      this.#seen = this.#total
      setImmediate(this.#flushWhenStill)
    }
  }

  readonly flush = (): void => {
    this.#seen = 0
    this.#turns = 0
    if (this.#total === 0) return
    const bytes = Buffer.allocUnsafe(this.#total)
    let at = 0
    for (let i = 0; i < this.#lengths.length; i++) {
      const length = this.#lengths[i] ?? 0
      const end = at + 4 + length
      at = bytes.writeUInt32BE(length, at)
      at = bytes.writeUInt32BE(this.#numbers[2 * i] ?? 0, at)
      at = bytes.writeUInt8(this.#numbers[2 * i + 1] ?? 0, at)
      const head = this.#heads[i]
      if (head !== undefined) {
        at = bytes.writeUInt32BE(head.length, at)
        at += bytes.write(head, at, 'latin1')
      }
      const body = this.#bodies[i]
      if (typeof body === 'string') bytes.write(body, at, 'utf8')
      else if (body !== undefined) bytes.set(body, at)
      at = end
    }
    this.#numbers = []
    this.#heads = []
    this.#bodies = []
    this.#lengths = []
    this.#total = 0
    this.#write(bytes)
  }
}

export type TakeFrame = (id: number, kind: number, content: Buffer) => void

/** Puts frames together from what arrives. */
export class FrameReader {
  readonly #bytesMax: number
  readonly #take: TakeFrame
  #parts: Buffer[] = []
  #length = 0
  /** Of the frame that `#parts` begins, with its length field; 0 while that is not known. */
  #awaited = 0

  constructor(bytesMax: number, take: TakeFrame) {
    this.#bytesMax = bytesMax
    this.#take = take
  }

  /** False for a frame that is too long, or none: nothing further can be read. */
  read(chunk: Buffer): boolean {
    let bytes = chunk
    if (this.#length > 0) {
      this.#parts.push(chunk)
      this.#length += chunk.length
      if (this.#length < Math.max(this.#awaited, 4)) return true
      bytes = Buffer.concat(this.#parts, this.#length)
      this.#parts = []
      this.#length = 0
    }
    let at = 0
    let awaited = 0
    while (bytes.length - at >= 4) {
      const length = bytes.readUInt32BE(at)
      if (length < afterLength || length > this.#bytesMax) return false
      awaited = 4 + length
      const end = at + awaited
      if (bytes.length < end) break
      this.#take(bytes.readUInt32BE(at + 4), bytes[at + 8] ?? 0, bytes.subarray(at + prefixBytes, end))
      awaited = 0
      at = end
    }
    this.#awaited = awaited
    if (at < bytes.length) {
      this.#parts.push(at === 0 ? bytes : bytes.subarray(at))
      this.#length = bytes.length - at
    }
    return true
  }
}

export interface Message {
  /** Latin-1. */
  readonly head: string
  readonly body: Buffer
}

/** Undefined for what is no message. */
export function messageOf(content: Buffer): Message | undefined {
  if (content.length < 4) return undefined
  const end = 4 + content.readUInt32BE(0)
  if (end > content.length) return undefined
  return { head: content.toString('latin1', 4, end), body: content.subarray(end) }
}
