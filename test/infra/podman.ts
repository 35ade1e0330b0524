/** Podman and the deployment scripts as functions; what they print is part of the error when they fail. */
import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'

export const root = path.resolve(import.meta.dirname, '../..')

/** Returns what it printed; rejects with all of that where it fails. */
export async function run(
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<string> {
  try {
    const options = { cwd: root, env: { ...process.env, ...env }, maxBuffer: 64 * 1024 * 1024 }
    return (await promisify(execFile)(command, [...args], options)).stdout
  } catch (error) {
    const { stdout = '', stderr = '', message } = error as Error & { stdout?: string; stderr?: string }
    throw new Error(`${message.split('\n')[0]}\n${stdout}\n${stderr}`)
  }
}

export const podman = (...args: string[]) => run('podman', args)

/** Builds the image under this tag; `label` makes another image of the same source, as a later version would be. */
export async function buildImage(tag: string, label = tag): Promise<void> {
  // On the machine's own network: npm may reach its registry by the machine's settings alone.
  const options = ['--network', 'host', '--format', 'docker', '--label', `of=${label}`]
  await podman('build', '-q', ...options, '-f', 'infra/images/Dockerfile', '-t', tag, '.')
}

/** Bytes of all layers. */
export async function imageBytes(name: string): Promise<number> {
  return Number(await podman('image', 'inspect', '--format', '{{.Size}}', name))
}
