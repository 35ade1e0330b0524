/** The bot as a process, with what it keeps in a folder of its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { Account } from '../sdk-client.ts'

const python = path.resolve(import.meta.dirname, '../../../node_modules/.cache/nio/bin/python')

/** Whether matrix-nio is there; where not, says so and the tests that need it are left out. */
export const nioInstalled: boolean = existsSync(python)
if (!nioInstalled) console.log('left out: tests of a bot with matrix-nio, which test/client/nio/install.sh installs')

export interface Bot {
  start(): void
  /** SIGKILL, and waits. */
  kill(): Promise<void>
  /** Kills it, and removes what it kept. Throws where it had ended by itself. */
  close(): Promise<void>
}

export function bot(account: Account, homeserver: string): Bot {
  const folder = mkdtempSync(path.join(tmpdir(), 'ganglion-bot-'))
  const settings = path.join(folder, 'settings.json')
  writeFileSync(settings, JSON.stringify({ ...account, homeserver, folder }), { mode: 0o600 })
  let child: ChildProcess | undefined
  let said = ''

  async function kill(): Promise<void> {
    const running = child
    if (!running) return
    child = undefined
    if (running.exitCode !== null) throw new Error(`the bot ended with ${running.exitCode}:\n${said}`)
    const ended = new Promise((resolve) => running.once('exit', resolve))
    running.kill('SIGKILL')
    await ended
  }

  return {
    start() {
      const started = spawn(python, [path.join(import.meta.dirname, 'bot.py'), settings], {
        stdio: ['ignore', 'ignore', 'pipe'],
      })
      child = started
      started.stderr.on('data', (data) => {
        said = `${said}${data}`.slice(-5_000)
      })
    },
    kill,
    async close() {
      try {
        await kill()
      } finally {
        rmSync(folder, { recursive: true, force: true })
      }
    },
  }
}
