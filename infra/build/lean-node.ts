/** Modules of Node that take long to load, and that a start without TLS does not need: loaded at their first use. HTTP/2,
 *  which we leave to proxies, is not loaded at all; the HTTP adapter asks only whether a request came by it. */
import type { Plugin } from 'esbuild'

const lazily = (module: string) => `const real = () => process.getBuiltinModule(${JSON.stringify(module)})\n`

/** Exactly what is imported of them: another import fails the build. */
const modules: Readonly<Record<string, string>> = {
  'node:tls': `${lazily('node:tls')}export const connect = (...args) => real().connect(...args)
export const createSecureContext = (...args) => real().createSecureContext(...args)
export const getCACertificates = (...args) => real().getCACertificates(...args)
export const checkServerIdentity = (...args) => real().checkServerIdentity(...args)
export default { connect }`,
  'node:https': `${lazily('node:https')}export const createServer = (...args) => real().createServer(...args)
export const request = (...args) => real().request(...args)
export function Agent(options) { return new (real().Agent)(options) }`,
  'node:http2': `export class Http2ServerRequest {}
export const constants = {}`,
}
const namespace = 'lean-node'
/** Loaded only when there is a mail to send, and then for TLS: it gets the real ones. */
const needsReal = /[\\/]node_modules[\\/]nodemailer[\\/]/

export const leanNode: Plugin = {
  name: 'lean node',
  setup(build) {
    build.onResolve({ filter: /^(?:node:)?(?:tls|https|http2)$/ }, ({ path: given, importer }) => {
      const path = given.startsWith('node:') ? given : `node:${given}`
      return needsReal.test(importer) ? { path, external: true } : { path, namespace, sideEffects: false }
    })
    build.onLoad({ filter: /.*/, namespace }, ({ path }) => ({ contents: modules[path] ?? '', loader: 'js' }))
  },
}
