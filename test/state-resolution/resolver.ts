/** A process that resolves state: one case a line in, one answer a line out, in the same order. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'

export interface Resolver {
  /** The answers to these lines, in their order. */
  answers(lines: readonly string[]): Promise<string[]>
  close(): Promise<void>
}

/** Throws from `answers` where the process ends before it has answered. */
export function resolver(command: string, args: readonly string[]): Resolver {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  const ended = once(child, 'close')
  const answered = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  // What it could not be written is noticed where its answer is missing.
  child.stdin.on('error', () => {})
  return {
    async answers(lines) {
      child.stdin.write(lines.map((line) => `${line}\n`).join(''))
      const answers: string[] = []
      while (answers.length < lines.length) {
        const next = await answered.next()
        if (next.done) throw new Error(`${command} ended after ${answers.length} of ${lines.length} answers`)
        answers.push(next.value)
      }
      return answers
    },
    async close() {
      child.stdin.end()
      await ended
    },
  }
}
