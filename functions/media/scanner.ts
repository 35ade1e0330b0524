/** Asks the operator's scanner about bytes that were uploaded, before anybody can fetch them. */
import { Readable } from 'node:stream'
import * as v from 'valibot'
import type { Config } from '../../shared/config/schema.ts'
import type { Logger } from '../../shared/logging.ts'
import type { UserId } from '../../shared/matrix/ids.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'
import { copied } from '../../shared/media/pieces.ts'
import type { MediaStore } from '../../shared/media/store.ts'
import type { WrittenObject } from './uploads.ts'

export interface Scanner {
  /** Throws M_FORBIDDEN for what is not clean; while the scanner is down, M_UNAVAILABLE or nothing, as configured. */
  check(what: WrittenObject & { readonly content_type: string; readonly user_id: UserId | undefined }): Promise<void>
  close(): Promise<void>
}

const Verdict = v.object({ clean: v.boolean() })
const verdictBytesMax = 64 * 1024

export function createScanner(deps: {
  readonly settings: NonNullable<Config['media']['scanner']>
  readonly store: MediaStore
  readonly log: Pick<Logger, 'warn'>
}): Scanner {
  const { settings, store, log } = deps
  const connection = import('./scanner-connection.ts').then(({ connectScanner }) => connectScanner(settings.timeout))

  async function isClean({ object_key, size, sha256, content_type, user_id }: Parameters<Scanner['check']>[0]) {
    // undici keeps pieces that it could not send yet.
    const body = size === 0 ? '' : Readable.from(copied(await store.read(object_key, { start: 0, end: size })))
    const { request, dispatcher } = await connection
    const answer = await request(settings.url, {
      method: 'POST',
      dispatcher,
      signal: AbortSignal.timeout(settings.timeout),
      body,
      headers: {
        'content-type': content_type,
        'content-length': String(size),
        'x-ganglion-sha256': sha256,
        ...(user_id === undefined ? {} : { 'x-ganglion-user': encodeURIComponent(user_id) }),
        ...(settings.token === undefined ? {} : { authorization: `Bearer ${settings.token}` }),
      },
    })
    let text = ''
    for await (const piece of answer.body.setEncoding('utf8')) {
      text += piece
      if (text.length > verdictBytesMax) throw new Error('the answer is too long')
    }
    if (answer.statusCode !== 200) throw new Error(`it answered ${answer.statusCode}`)
    return v.parse(Verdict, JSON.parse(text)).clean
  }

  return {
    async check(what) {
      let clean: boolean
      try {
        clean = await isClean(what)
      } catch (err) {
        log.warn({ err, when_down: settings.when_down }, 'the scanner of uploads does not answer')
        if (settings.when_down === 'accept') return
        throw new MatrixError('M_UNAVAILABLE', 'Uploads cannot be scanned at the moment')
      }
      if (!clean) throw new MatrixError('M_FORBIDDEN', 'This file was refused by the scanner of this server')
    },
    close: async () => (await connection).dispatcher.close(),
  }
}
