/** What each command's declaration says of its repetition, held against what it does. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { recordedAnswer } from '../../functions/main/command-call.ts'
import type { CommandRunner } from '../../functions/main/command-runner.ts'
import { commands } from '../../shared/commands/registry.ts'
import { type CommandMains, commandMains, commandSecret, type RunningMain } from '../support/command-mains.ts'
import {
  type CommandName,
  commandScenarios,
  rowCounts,
  type Scenarios,
  scenarioConfig,
} from '../support/command-scenarios.ts'

let mains: CommandMains
let one: RunningMain
let scenarios: Scenarios
let runner: CommandRunner

beforeAll(async () => {
  mains = await commandMains()
  one = await mains.start({ config: scenarioConfig })
  await mains.settled(one)
  scenarios = commandScenarios(one.main.commands, mains.signingKey)
  runner = one.main.runner as CommandRunner
})
afterAll(() => mains.close())

const names = Object.keys(commands) as CommandName[]
const run = (name: CommandName, request: unknown, key: string, isRetry: boolean) =>
  runner.run(name, request, { key, isRetry, deadlineTs: Date.now() + 10_000 })
const recordedRows = (key: string) => mains.database.sql<{ scope: string; key: string; response: string }[]>`
  select * from idempotency where scope like 'command %' and response <> ${key}`

/** Their answers are new tokens each time, and the ones before stay as good, or end because nobody has seen them. */
const answersAnew = new Set<CommandName>([
  'createLoginToken',
  'makeMembershipEvent',
  'createOpenIdToken',
  'createConsentToken',
  'refreshSession',
])
const leavesTokens = new Set<CommandName>(['createLoginToken'])

describe.each(names)('%s', (name) => {
  const { repetition } = commands[name]

  test(`sent twice it has one effect and one answer (${repetition})`, async () => {
    const { sql } = mains.database
    const request = await scenarios[name]()
    const key = randomUUID()
    const before = (await recordedRows(key)).length
    const first = await run(name, request, key, false)
    const counts = await rowCounts(sql)
    const recorded = (await recordedRows(key)).length - before
    expect(recorded).toBe(repetition === 'harmless' ? 0 : 1)
    const second = await run(name, request, key, true)
    if (answersAnew.has(name)) expect(Object.keys(second as object)).toEqual(Object.keys(first as object))
    else expect(second).toEqual(first)
    const after = await rowCounts(sql)
    if (leavesTokens.has(name)) after.login_tokens = counts.login_tokens ?? 0
    expect(after).toEqual(counts)
  })

  if (repetition !== 'harmless') {
    test('two sendings at once are one, also where each thinks that it is the first', async () => {
      const { sql } = mains.database
      const request = await scenarios[name]()
      const key = randomUUID()
      const [a, b] = await Promise.all([run(name, request, key, false), run(name, request, key, true)])
      expect(b).toEqual(a)
      const counts = await rowCounts(sql)
      // One that was delayed on its way: nothing tells that it was sent before.
      const late = await run(name, request, key, false).catch((error: unknown) => error)
      if (!(late instanceof Error)) expect(late).toEqual(a)
      expect(await rowCounts(sql)).toEqual(counts)
    })
  }
})

test('an answer with secrets is stored sealed, and opened by the secret and the key alone', async () => {
  const request = await scenarios.register()
  const key = randomUUID()
  const first = (await run('register', request, key, false)) as { session: { access_token: string } }
  const rows = await mains.database.sql<{ key: string; response: string }[]>`
    select key, response from idempotency where scope = 'command register' order by created_ts desc, key`
  for (const row of rows) {
    expect(row.key).not.toContain(key)
    expect(row.response).not.toContain('gat_')
    expect(row.response).not.toContain('access_token')
    expect(Buffer.from(row.response, 'base64').toString('latin1')).not.toContain('access_token')
  }
  const call = { name: 'register', key, repetition: 'sealed', isRetry: true, deadlineTs: 0 } as const
  const answer = (secrets: string[]) => recordedAnswer(mains.database.sql, { ...call, secrets })
  expect(await answer([commandSecret])).toEqual(first)
  expect(await answer(['the-next', commandSecret])).toEqual(first)
  await expect(answer(['another'])).rejects.toThrow('sealed with another secret')
  expect(await recordedAnswer(mains.database.sql, { ...call, secrets: [commandSecret], key: randomUUID() })).toBe(
    undefined,
  )
})
