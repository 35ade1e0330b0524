/** What other servers say in passing, by type. https://spec.matrix.org/v1.19/server-server-api/#edus
 *  Whoever handles a type makes sure that its sender may say that: of their own users alone. */
import * as v from 'valibot'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { Logger } from '../../../../shared/logging.ts'
import type { ServerName } from '../../../../shared/matrix/ids.ts'
import type { JsonObject } from '../../../../shared/matrix/json-value.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import { isDatabaseAway } from '../../../../shared/storage/database-away.ts'

export interface EduHandler<Content = unknown> {
  readonly edu_type: string
  readonly content: v.GenericSchema<unknown, Content>
  /** Resolves when what has to last is stored. */
  handle(origin: ServerName, content: Content): Promise<void>
}

/** A handler among others: its content's type is its own matter. */
export function eduHandler<Content>(handler: EduHandler<Content>): EduHandler {
  return handler as unknown as EduHandler
}

/** One that is not what its type asks for is dropped, and so is one of a type that nobody handles. Where one could not be
 *  stored, nothing is acknowledged, and its sender comes again. */
export function receiveEdusHandler(deps: {
  readonly handlers: readonly EduHandler[]
  readonly log: Pick<Logger, 'error'>
}): MainClient['receiveEdus'] {
  const byType = new Map(deps.handlers.map((handler) => [handler.edu_type, handler]))
  return async ({ origin, edus }) => {
    // One after the other: to some, order matters.
    for (const { edu_type, content } of edus) {
      const handler = byType.get(edu_type)
      if (handler) await receive(handler, origin, content)
    }
    return {}
  }

  async function receive(handler: EduHandler, origin: ServerName, content: JsonObject): Promise<void> {
    const parsed = v.safeParse(handler.content, content)
    if (!parsed.success) return
    try {
      await handler.handle(origin, parsed.output)
    } catch (err) {
      if (err instanceof MatrixError) {
        if (err.errcode === 'M_UNAVAILABLE' || err.errcode === 'M_LIMIT_EXCEEDED') throw err
        // Refused, as a message to somebody who is not there.
        return
      }
      if (isDatabaseAway(err)) throw err
      // It would be no better the next time, and all that its sender has for this server would wait behind it.
      deps.log.error({ err, origin, edu_type: handler.edu_type }, 'what another server said could not be taken')
    }
  }
}
