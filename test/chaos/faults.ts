/** What is done to a running installation, and undone: the rows of the table of faults in docs/architecture.md. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ProcessRole, RoleProcess } from '../../infra/dev/role-process.ts'
import type { Installation } from './installation.ts'

export interface Fault {
  readonly name: string
  /** How long after it everything has to work again, in milliseconds. */
  readonly recoversWithinMs: number
  /** Whether clients may be told 5xx while it lasts; else only what a killed process was answering may fail. */
  readonly mayRefuse: boolean
  run(installation: Installation, random: { pick<T>(list: readonly T[]): T }): Promise<void>
}

const handlerRoles: readonly ProcessRole[] = ['client', 'sync']

function running(of: readonly RoleProcess[]): readonly RoleProcess[] {
  return of.filter((one) => one.running)
}

/** SIGSTOP, and after the pause SIGCONT; what has ended meanwhile is started again. */
async function freeze(one: RoleProcess, ms: number): Promise<void> {
  one.signal('SIGSTOP')
  await sleep(ms)
  one.signal('SIGCONT')
  // A main whose shards were taken over ends when it finds out.
  await Promise.race([one.ended, sleep(5_000)])
  await one.start()
}

function postmasterTree(installation: Installation): number[] {
  const file = path.join(installation.postgresFolder, 'cluster', 'postmaster.pid')
  const pid = Number(readFileSync(file, 'utf8').split('\n')[0])
  const children = execFileSync('pgrep', ['-P', String(pid)], { encoding: 'utf8' })
    .trim()
    .split('\n')
    .map(Number)
  return [pid, ...children]
}

function signalAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
}

export const faults: readonly Fault[] = [
  {
    name: 'a handler is killed',
    recoversWithinMs: 5_000,
    mayRefuse: false,
    async run({ roles }, random) {
      const victim = random.pick(running(roles.of(random.pick(handlerRoles))))
      await victim.kill()
      await sleep(500)
      await victim.start()
    },
  },
  {
    name: 'a handler is stopped in order',
    recoversWithinMs: 5_000,
    mayRefuse: false,
    async run({ roles }, random) {
      const victim = random.pick(running(roles.of(random.pick(handlerRoles))))
      await victim.stop()
      await victim.start()
    },
  },
  {
    name: 'a handler is frozen',
    recoversWithinMs: 5_000,
    mayRefuse: false,
    async run({ roles }, random) {
      const victim = random.pick(running(roles.of(random.pick(handlerRoles))))
      victim.signal('SIGSTOP')
      await sleep(3_000)
      victim.signal('SIGCONT')
    },
  },
  {
    name: 'a main is killed, another stands by',
    recoversWithinMs: 8_000,
    mayRefuse: true,
    async run({ roles }, random) {
      const victim = random.pick(running(roles.of('main')))
      await victim.kill()
      await sleep(4_000)
      await victim.start()
    },
  },
  {
    name: 'a main is frozen, another stands by',
    recoversWithinMs: 8_000,
    mayRefuse: true,
    run: ({ roles }, random) => freeze(random.pick(running(roles.of('main'))), 6_000),
  },
  {
    name: 'a main is stopped in order',
    recoversWithinMs: 5_000,
    mayRefuse: false,
    async run({ roles }, random) {
      const victim = random.pick(running(roles.of('main')))
      await victim.stop()
      await victim.start()
    },
  },
  {
    name: 'all are stopped in order, one after the other',
    recoversWithinMs: 5_000,
    mayRefuse: false,
    async run({ roles }) {
      for (const one of running([...roles.of('main'), ...handlerRoles.flatMap(roles.of)])) {
        await one.stop()
        await one.start()
      }
    },
  },
  {
    name: 'Redis is killed and comes back empty',
    recoversWithinMs: 8_000,
    mayRefuse: true,
    async run({ redis }) {
      await redis.kill()
      await sleep(2_000)
      await redis.start()
    },
  },
  {
    name: 'Redis is emptied',
    recoversWithinMs: 5_000,
    mayRefuse: false,
    run: ({ redis }) => redis.flush(),
  },
  {
    name: 'Redis is paused',
    recoversWithinMs: 8_000,
    mayRefuse: true,
    async run({ redis }) {
      redis.pause()
      await sleep(8_000)
      redis.resume()
    },
  },
  {
    name: 'connections to Redis are half-open',
    recoversWithinMs: 8_000,
    mayRefuse: true,
    async run({ redisGate }) {
      redisGate.frozen = true
      await sleep(5_000)
      redisGate.cut()
      redisGate.frozen = false
    },
  },
  {
    name: 'connections to Redis are cut',
    recoversWithinMs: 5_000,
    mayRefuse: true,
    async run({ redisGate }) {
      redisGate.cut()
    },
  },
  {
    name: 'PostgreSQL freezes',
    recoversWithinMs: 10_000,
    mayRefuse: true,
    async run(installation) {
      const pids = postmasterTree(installation)
      signalAll(pids, 'SIGSTOP')
      await sleep(3_000)
      signalAll(pids, 'SIGCONT')
    },
  },
  {
    name: 'PostgreSQL is stopped and started',
    recoversWithinMs: 15_000,
    mayRefuse: true,
    async run(installation) {
      await installation.restartPostgres()
    },
  },
  {
    name: 'one sync handler becomes eight, and one again',
    recoversWithinMs: 5_000,
    mayRefuse: false,
    async run({ roles }) {
      const [, ...resting] = running(roles.of('sync'))
      const expectRunning = (count: number) => {
        const found = running(roles.of('sync')).length
        if (found !== count) throw new Error(`${found} sync handlers run, not ${count}`)
      }
      await Promise.all(resting.map((one) => one.stop()))
      expectRunning(1)
      const added = await Promise.all(Array.from({ length: 7 }, () => roles.add('sync')))
      expectRunning(8)
      await sleep(1_000)
      for (const one of added) await one.stop()
      expectRunning(1)
      await Promise.all(resting.map((one) => one.start()))
    },
  },
]
