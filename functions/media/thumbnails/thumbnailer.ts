/** Thumbnails of images: looked at here by their headers, decoded in processes of their own, few at a time. Nothing is stored
 *  here; the same image in the same size gives the same bytes. */
import type { Clock } from '../../../shared/clock.ts'
import type { Config } from '../../../shared/config/schema.ts'
import { type ImageType, readImageHeader } from './image-header.ts'
import type { Thumbnail, ThumbnailJob } from './job.ts'
import type { ThumbnailSize } from './sizes.ts'
import { ThumbnailError } from './thumbnail-error.ts'
import { startWorkerProcess, type WorkerProcess } from './worker-process.ts'

export interface ThumbnailRequest {
  readonly source: Uint8Array
  readonly size: ThumbnailSize
  /** A picture that moves stays one, as far as the limits allow; otherwise its first frame is taken. */
  readonly animated: boolean
  readonly signal?: AbortSignal | undefined
}

export interface Thumbnailer {
  /** Throws ThumbnailError. */
  make(request: ThumbnailRequest): Promise<Thumbnail>
  /** Of the processes that are there now. */
  readonly pids: readonly number[]
  /** Ends what is under way. */
  close(): Promise<void>
}

/** A process that had nothing to do for so long is ended; the next image starts one. */
const idleMs = 30_000
/** Images that wait, and the memory they take, in sources of the largest size. */
const waiting = { most: 64, sources: 4 }
const formats: Readonly<Record<ImageType, ThumbnailJob['format']>> = {
  'image/jpeg': 'jpeg',
  'image/png': 'png',
  'image/gif': 'gif',
  'image/webp': 'webp',
  'image/avif': 'heif',
}

export function createThumbnailer(options: {
  readonly config: Config['thumbnails']
  readonly clock: Clock
}): Thumbnailer {
  const { config, clock } = options
  const limits = { timeoutMs: config.timeout, memoryBytesMax: config.memory }
  const idle = new Map<WorkerProcess, () => void>()
  const busy = new Set<WorkerProcess>()
  const line = new Set<{ readonly begin: () => void; readonly giveUp: () => void }>()
  let active = 0
  let waitingBytes = 0
  let closed = false

  const takeWorker = (): WorkerProcess => {
    for (const [worker, stopTimer] of idle) {
      stopTimer()
      idle.delete(worker)
      if (worker.alive) return worker
    }
    return startWorkerProcess(limits, clock)
  }
  const putBack = (worker: WorkerProcess) => {
    if (!worker.alive) return
    const endIdle = () => {
      idle.delete(worker)
      worker.end()
    }
    if (closed) endIdle()
    else idle.set(worker, clock.after(idleMs, endIdle))
  }
  /** Resolves when one more may be made; whoever has waited for that ends it by `next`. */
  const turn = async (bytes: number, signal: AbortSignal | undefined): Promise<void> => {
    if (active < config.concurrency) {
      active += 1
      return
    }
    if (line.size >= waiting.most || waitingBytes + bytes > waiting.sources * config.source_bytes_max) {
      throw new ThumbnailError('busy', 'Too many thumbnails are being made')
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const giveUp = () => {
      line.delete(waits)
      reject(new ThumbnailError('aborted', 'Nobody waits for the thumbnail any more'))
    }
    const waits = { begin: resolve, giveUp }
    line.add(waits)
    waitingBytes += bytes
    signal?.addEventListener('abort', giveUp, { once: true })
    try {
      await promise
    } finally {
      line.delete(waits)
      waitingBytes -= bytes
      signal?.removeEventListener('abort', giveUp)
    }
  }
  /** The turn goes on to the first who waits. */
  const next = () => {
    const [first] = line
    if (!first) {
      active -= 1
      return
    }
    line.delete(first)
    first.begin()
  }

  return {
    async make({ source, size, animated, signal }) {
      if (closed || signal?.aborted) throw new ThumbnailError('aborted', 'Nobody waits for the thumbnail')
      const job = planned(source, size, animated, config)
      await turn(source.length, signal)
      try {
        const worker = takeWorker()
        busy.add(worker)
        try {
          return await worker.run(job, signal)
        } finally {
          busy.delete(worker)
          putBack(worker)
        }
      } finally {
        next()
      }
    },
    get pids() {
      return [...idle.keys(), ...busy].flatMap(({ pid }) => (pid === undefined ? [] : [pid]))
    },
    async close() {
      closed = true
      for (const waits of line) waits.giveUp()
      for (const worker of [...idle.keys(), ...busy]) worker.end()
      for (const stopTimer of idle.values()) stopTimer()
      idle.clear()
    },
  }
}

/** Decides by the header alone whether an image is decoded at all, and how much of it. */
function planned(
  source: Uint8Array,
  size: ThumbnailSize,
  animated: boolean,
  config: Config['thumbnails'],
): ThumbnailJob {
  if (source.length > config.source_bytes_max) {
    throw new ThumbnailError('too_large', `The image has more than ${config.source_bytes_max} bytes`)
  }
  const header = readImageHeader(source)
  if (!header) throw new ThumbnailError('unsupported', 'This is no image of a type that thumbnails are made of')
  const pixels = header.width * header.height
  if (pixels > config.pixels_max) {
    throw new ThumbnailError('too_large', `The image has more than ${config.pixels_max} pixels`)
  }
  const moves = animated && header.frames <= config.frames_max && pixels * header.frames <= config.pixels_max
  return {
    source,
    format: formats[header.content_type],
    size,
    frames: moves ? header.frames : 1,
    pixelsMax: config.pixels_max,
  }
}
