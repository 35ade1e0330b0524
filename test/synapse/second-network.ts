/** A second network namespace, joined to this one by a cable of its own: who runs there is another machine. */
import { execFileSync } from 'node:child_process'
import { randomInt } from 'node:crypto'

export interface SecondNetwork {
  /** Of this side. */
  readonly here: string
  readonly there: string
  /** The command line that runs a program there. */
  inside(command: string, ...args: readonly string[]): [command: string, args: string[]]
  close(): void
}

/** Whether such networks can be made here: as root, by `ip`. */
export function networksPossible(): boolean {
  if (process.getuid?.() !== 0) return false
  try {
    const name = `gn-try-${process.pid}`
    ip('netns', 'add', name)
    ip('netns', 'del', name)
    return true
  } catch {
    return false
  }
}

export function secondNetwork(): SecondNetwork {
  const name = `gn-${process.pid}`
  const [cable, end] = [`gn${process.pid}a`, `gn${process.pid}b`]
  const net = `10.213.${randomInt(1, 250)}`
  const [here, there] = [`${net}.1`, `${net}.2`]
  ip('netns', 'add', name)
  try {
    ip('link', 'add', cable, 'type', 'veth', 'peer', 'name', end, 'netns', name)
    ip('addr', 'add', `${here}/30`, 'dev', cable)
    ip('link', 'set', cable, 'up')
    ip('-n', name, 'addr', 'add', `${there}/30`, 'dev', end)
    ip('-n', name, 'link', 'set', end, 'up')
    ip('-n', name, 'link', 'set', 'lo', 'up')
  } catch (error) {
    ip('netns', 'del', name)
    throw error
  }
  return {
    here,
    there,
    inside: (command, ...args) => ['ip', ['netns', 'exec', name, command, ...args]],
    // The cable goes with its end.
    close: () => ip('netns', 'del', name),
  }
}

function ip(...args: readonly string[]): void {
  execFileSync('ip', [...args], { stdio: ['ignore', 'ignore', 'pipe'] })
}
