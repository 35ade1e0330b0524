/** A process that decodes, as its owner sees it: one job at a time, and an end to it whatever the job does. */
import { type ChildProcess, fork } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import * as v from 'valibot'
import type { Clock } from '../../../shared/clock.ts'
import { type Thumbnail, type ThumbnailJob, ThumbnailResult } from './job.ts'
import { ThumbnailError } from './thumbnail-error.ts'

export interface WorkerProcess {
  readonly pid: number | undefined
  /** Whether it takes another job. */
  readonly alive: boolean
  /** Throws ThumbnailError; after any but 'broken' the process has ended. */
  run(job: ThumbnailJob, signal: AbortSignal | undefined): Promise<Thumbnail>
  end(): void
}

export interface WorkerLimits {
  readonly timeoutMs: number
  readonly memoryBytesMax: number
}

const memoryCheckMs = 50
/** Beside its source in the project; among the bundles, a program of its own. */
const program = ['worker.ts', 'thumbnail-worker.js']
  .map((name) => path.join(import.meta.dirname, name))
  .find((file) => existsSync(file))

export function startWorkerProcess({ timeoutMs, memoryBytesMax }: WorkerLimits, clock: Clock): WorkerProcess {
  if (program === undefined) throw new Error('the program that decodes images is not where it belongs')
  const child = fork(program, [], {
    serialization: 'advanced',
    // Nothing of this process's environment, arguments or output.
    env: { MALLOC_ARENA_MAX: '2', UV_THREADPOOL_SIZE: '2' },
    execArgv: ['--max-old-space-size=64'],
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  })
  child.unref()
  child.channel?.unref()
  let underWay: PromiseWithResolvers<Thumbnail> | undefined
  let alive = true

  const end = (error: ThumbnailError) => {
    if (alive) child.kill('SIGKILL')
    alive = false
    underWay?.reject(error)
  }
  child.on('message', (message) => {
    const { thumbnail } = v.parse(ThumbnailResult, message)
    if (thumbnail) underWay?.resolve(thumbnail)
    else underWay?.reject(new ThumbnailError('broken', 'The image cannot be decoded'))
  })
  child.on('error', () => end(new ThumbnailError('broken', 'The process that decodes could not be used')))
  child.on('exit', () => end(new ThumbnailError('broken', 'The process that decodes ended over this image')))

  return {
    get pid() {
      return alive ? child.pid : undefined
    },
    get alive() {
      return alive
    },
    async run(job, signal) {
      if (signal?.aborted) throw new ThumbnailError('aborted', 'Nobody waits for the thumbnail any more')
      const turn = Promise.withResolvers<Thumbnail>()
      underWay = turn
      const tooSlow = () => end(new ThumbnailError('timeout', `The image took longer than ${timeoutMs} ms`))
      const stopTimer = clock.after(timeoutMs, tooSlow)
      const tooMuch = () =>
        end(new ThumbnailError('timeout', `The image took more than ${memoryBytesMax} bytes of memory`))
      const stopChecks = everyTime(clock, memoryCheckMs, () => {
        if (memoryOf(child) > memoryBytesMax) tooMuch()
      })
      const giveUp = () => end(new ThumbnailError('aborted', 'Nobody waits for the thumbnail any more'))
      signal?.addEventListener('abort', giveUp, { once: true })
      try {
        child.send(job, (error) => {
          if (error) end(new ThumbnailError('broken', 'The process that decodes could not be reached'))
        })
        return await turn.promise
      } finally {
        stopTimer()
        stopChecks()
        signal?.removeEventListener('abort', giveUp)
        underWay = undefined
      }
    },
    end: () => end(new ThumbnailError('aborted', 'The server ends')),
  }
}

function everyTime(clock: Clock, delayMs: number, run: () => void): () => void {
  let stop = clock.after(delayMs, function again() {
    stop = clock.after(delayMs, again)
    run()
  })
  return () => stop()
}

/** Resident bytes of a process; 0 where the system does not say. */
function memoryOf({ pid }: ChildProcess): number {
  try {
    const [, kib] = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
    return Number(kib ?? 0) * 1024
  } catch {
    return 0
  }
}
