/** The server's signing key: a file in Synapse's format, made at the first start. */
import { existsSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import type { Config } from '../config/schema.ts'
import type { SigningKeys } from '../federation/federation.ts'
import { generateSigningKey, parseSigningKeyFile, serialiseSigningKey } from '../matrix/signatures.ts'

export function signingKeyPath(config: Config): string {
  return config.signing_key_path ?? path.join(config.data_dir, 'signing.key')
}

/** The file's first key signs. Throws a sentence for the operator when the file holds none. */
export function loadOrMakeSigningKeys(config: Config): SigningKeys {
  const file = signingKeyPath(config)
  if (!existsSync(file)) makeKeyFile(file)
  return loadSigningKeys(config)
}

/** All keys of the file; the first signs. Throws a sentence for the operator when there is no file, or none in it. */
export function loadSigningKeys(config: Config): SigningKeys {
  const file = signingKeyPath(config)
  if (!existsSync(file)) {
    throw new Error(
      `${file}: there is no signing key. All mains, and handlers of client, federation and media, need the same one: copy it here, or set signing_key_path`,
    )
  }
  const [key, ...others] = parseSigningKeyFile(readFileSync(file, 'utf8'))
  if (!key) throw new Error(`${file}: expected a line such as "ed25519 a_abcd <base64 seed>"`)
  return [key, ...others]
}

/** Written whole under another name first: a crash must not leave half a key, and two starts must agree on one. */
function makeKeyFile(file: string): void {
  mkdirSync(path.dirname(file), { recursive: true })
  const draft = `${file}.${process.pid}`
  writeFileSync(draft, serialiseSigningKey(generateSigningKey()), { mode: 0o600 })
  try {
    linkSync(draft, file)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  } finally {
    rmSync(draft)
  }
}
