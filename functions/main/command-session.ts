/** The server's side of a session: commands come in on one connection, and are answered in the order in which they end. */
import type { Socket } from 'node:net'
import {
  type CommandAnswer,
  decodeCommand,
  type Envelope,
  encodeAnswer,
  LinePairs,
  ping,
} from '../../shared/replication/command-protocol.ts'

export interface CommandSession {
  /** Bytes that came with the upgrade. */
  take(bytes: Buffer): void
  /** Ends it when what runs is answered; what still comes is turned away by `carryOut`. */
  end(): void
  cut(): void
}

/** Of answers that the sender does not take. */
const unsentBytesMax = 64 * 1024 * 1024
const keepAliveMs = 30_000
const lineBytesMax = 4_096

export function openSession(options: {
  readonly socket: Socket
  readonly bodyBytesMax: number
  /** `body` undefined: it is larger than allowed. */
  readonly carryOut: (envelope: Envelope, body: string | undefined, reply: (answer: CommandAnswer) => void) => void
}): CommandSession {
  const { socket, carryOut } = options
  const pairs = new LinePairs(options.bodyBytesMax + lineBytesMax)
  let running = 0
  let outgoing = ''
  let ending = false

  function send(text: string): void {
    // Answers that come up together, as those of one commit do, take one write.
    if (outgoing === '') setImmediate(flush)
    outgoing += text
  }

  function flush(): void {
    const text = outgoing
    outgoing = ''
    if (socket.writable) socket.write(text)
    if (socket.writableLength > unsentBytesMax) socket.destroy()
    else endWhenDone()
  }

  function endWhenDone(): void {
    if (ending && running === 0 && outgoing === '') socket.end()
  }

  /** `body` undefined: it was too long to be kept. */
  function onCommand(first: string, body: string | undefined): void {
    if (first === 'ping') {
      send(ping)
      return
    }
    const command = decodeCommand(first)
    if (!command) {
      socket.destroy()
      return
    }
    running++
    carryOut(command.envelope, body, (answer) => {
      running--
      send(encodeAnswer(command.id, answer))
    })
  }

  const session: CommandSession = {
    take(bytes) {
      if (!pairs.read(bytes, onCommand, (first) => onCommand(first, undefined))) socket.destroy()
    },
    end() {
      ending = true
      endWhenDone()
    },
    cut: () => socket.destroy(),
  }
  socket.setNoDelay(true)
  socket.setTimeout(0)
  // A machine that is gone says so no other way: nothing is sent on a session that nobody uses.
  socket.setKeepAlive(true, keepAliveMs)
  socket.on('data', (chunk: Buffer) => session.take(chunk))
  socket.on('end', () => session.end())
  return session
}
