import type { Config } from '../../shared/config/schema.ts'

/** Where a process of this configuration answers on this machine; undefined where all its listeners speak TLS. */
export function localUrl(config: Config): string | undefined {
  const plain = config.listeners.find((listener) => listener.tls_certificate_path === undefined)
  if (!plain) return undefined
  const host = /^(?:0\.0\.0\.0|::)$/.test(plain.bind) ? 'localhost' : plain.bind
  return `http://${host.includes(':') ? `[${host}]` : host}:${plain.port}`
}
