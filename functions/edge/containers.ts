/** Handlers that the Worker starts itself: each is a container behind a durable object, which wakes it at its first request
 *  and is put to sleep with it. All of a role are alike; their names say which one, never who. */
import { DurableObject } from 'cloudflare:workers'
import type { Role } from '../../shared/http/route.ts'

/** The part of Cloudflare's interface that is used here. */
export interface ContainerNamespace {
  getByName(name: string): { fetch(url: string, init: RequestInit): Promise<Response> }
}
interface Container {
  readonly running: boolean
  start(options: { env?: Record<string, string>; enableInternet?: boolean }): void
  monitor(): Promise<void>
  getTcpPort(port: number): { fetch(url: string, init: Request): Promise<Response> }
}

const handlerPort = 8008
/** From a cold start to the first answer. */
const startMs = 20_000
const lookEveryMs = 100

export function containerNames(role: Role, count: number): string[] {
  return Array.from({ length: count }, (_, i) => `${role}-${i}`)
}

export function fetchFromContainer(
  namespace: ContainerNamespace,
  instance: string,
  target: string,
  init: RequestInit,
): Promise<Response> {
  return namespace.getByName(instance).fetch(`http://${instance}${target}`, init)
}

/** Settings that a handler's container gets of the Worker's own: all that begin so. */
const settingsPrefix = 'GANGLION_'

abstract class HandlerContainer extends DurableObject {
  abstract readonly role: Role

  override async fetch(request: Request): Promise<Response> {
    const container = (this.ctx as unknown as { readonly container?: Container }).container
    if (!container) throw new Error('this durable object has no container; wrangler.toml names it in [[containers]]')
    if (!container.running) {
      const settings = Object.entries(this.env as Record<string, unknown>).filter(
        (entry): entry is [string, string] => entry[0].startsWith(settingsPrefix) && typeof entry[1] === 'string',
      )
      container.start({ env: { ...Object.fromEntries(settings), GANGLION_ROLE: this.role }, enableInternet: true })
      await this.#listening(container)
    }
    return container.getTcpPort(handlerPort).fetch(request.url, request)
  }

  /** Rejects where it does not listen in time. */
  async #listening(container: Container): Promise<void> {
    const deadline = Date.now() + startMs
    const port = container.getTcpPort(handlerPort)
    for (;;) {
      try {
        await port.fetch('http://container/live', new Request('http://container/live'))
        return
      } catch (error) {
        if (Date.now() > deadline) throw error
        await new Promise((resolve) => setTimeout(resolve, lookEveryMs))
      }
    }
  }
}

export class SyncContainer extends HandlerContainer {
  readonly role = 'sync'
}
export class ClientContainer extends HandlerContainer {
  readonly role = 'client'
}
export class FederationContainer extends HandlerContainer {
  readonly role = 'federation'
}
export class MediaContainer extends HandlerContainer {
  readonly role = 'media'
}
