/** `ganglion doctor`: whether other servers find a server, trust it and understand it; and what to do where not. */
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import * as v from 'valibot'
import { systemClock } from '../../shared/clock.ts'
import { loadConfig } from '../../shared/config/load.ts'
import { Config } from '../../shared/config/schema.ts'
import { addressRules } from '../../shared/egress/address-rules.ts'
import { createEgress } from '../../shared/egress/egress.ts'
import { systemResolver } from '../../shared/egress/resolver.ts'
import type { SigningKeys } from '../../shared/federation/federation.ts'
import { systemSrvLookup } from '../../shared/federation/srv.ts'
import { ServerName } from '../../shared/matrix/ids.ts'
import { loadSigningKeys } from '../../shared/role/signing-key.ts'
import { type Command, configHelp, configOption, configPaths, UsageError } from './command.ts'
import { diagnose } from './doctor/diagnose.ts'
import type { Finding } from './doctor/finding.ts'

export const doctor: Command = {
  help: `Usage: ganglion doctor -c homeserver.yaml
       ganglion doctor NAME [-c homeserver.yaml]

Looks at a server as others do: where its name leads (.well-known, SRV, DNS), its certificate, whether it answers, its
keys, whether paths come through the proxy as they were sent, and what clients are told. Prints each check, and what to do
where something is wrong. NAME is a server's name, such as example.org; without one, the configuration's own. Run it from
outside of the server's network to see what others see.

${configHelp}
      --json               one finding a line: {"check", "outcome", "found", "fix"}

Exit code 0 if nothing is wrong, 1 if something is.`,
  async run(args) {
    const { values, positionals } = parseArgs({
      args: [...args],
      options: { ...configOption, json: { type: 'boolean', default: false } },
      allowPositionals: true,
    })
    if (positionals.length > 1) throw new UsageError('doctor takes one name')
    const paths = configPaths(values)
    const [given] = positionals
    if (given === undefined && paths.length === 0) throw new UsageError('whose? Give a name, or a configuration')
    const config = paths.length > 0 ? (await loadConfig({ paths, env: process.env })).config : undefined
    const name = nameOf(given ?? config?.server_name)
    const { egress: reach, federation } = config ?? v.parse(Config, { server_name: name })
    const ca = federation.ca_path
    const egress = createEgress({
      config: { ...reach, allowed_ranges: ['0.0.0.0/0', '::/0'], denied_ranges: [], ports: [] },
      caPath: ca,
    })
    const own = config?.server_name === name ? { config, signingKeys: readableKeys(config) } : undefined
    const instruments = {
      egress,
      resolve: systemResolver,
      srv: systemSrvLookup(),
      rules: addressRules(reach),
      clock: systemClock,
      ca: ca === undefined ? undefined : readFileSync(ca, 'utf8'),
    }
    let failures = 0
    try {
      for await (const finding of diagnose({ name, own }, instruments)) {
        process.stdout.write(values.json ? `${JSON.stringify(finding)}\n` : told(finding))
        if (finding.outcome === 'wrong') failures++
      }
    } finally {
      await egress.close()
    }
    if (!values.json) process.stdout.write(failures === 0 ? '\nNothing is wrong.\n' : `\n${failures} wrong.\n`)
    return failures === 0 ? 0 : 1
  },
}

function nameOf(text: string | undefined): ServerName {
  const parsed = v.safeParse(ServerName, text)
  if (!parsed.success) throw new UsageError(`${text} is no server's name; one is like example.org, without https://`)
  return parsed.output
}

/** undefined where there is no file that this user may read: then less can be told. */
function readableKeys(config: Config): SigningKeys | undefined {
  try {
    return loadSigningKeys(config)
  } catch {
    return undefined
  }
}

const marks = { ok: 'ok     ', note: 'note   ', wrong: 'WRONG  ', skipped: '-      ' } as const

function told({ check, outcome, found, fix }: Finding): string {
  return `${marks[outcome]}${check}: ${found}\n${fix === undefined ? '' : `       → ${fix}\n`}`
}
