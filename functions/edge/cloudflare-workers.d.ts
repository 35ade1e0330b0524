/** The part of the Workers runtime's own module that the edge uses. */
declare module 'cloudflare:workers' {
  export abstract class DurableObject {
    protected readonly ctx: unknown
    protected readonly env: unknown
    constructor(ctx: unknown, env: unknown)
    fetch?(request: Request): Response | Promise<Response>
  }
}
