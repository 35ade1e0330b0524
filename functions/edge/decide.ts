/** What becomes of a request, worked out from its first line and headers alone: an answer of the edge's own, or a role and
 *  what to stick by. Node and the Worker ask the same question here. */

import { preflightHeaders } from '../../shared/http/headers.ts'
import type { Role } from '../../shared/http/route.ts'
import { type RoutedTo, roleOf } from '../../shared/http/route-table.ts'
import { type EdgeAnswer, tooLarge, unknownPath } from './answers.ts'

export interface RequestLine {
  readonly method: string
  /** As it came, with the query: `/_matrix/…?…`. */
  readonly target: string
  readonly authorization: string | undefined
  /** Of the header, where it is a number. */
  readonly contentLength: number | undefined
}

export interface Forward {
  readonly role: Role
  /** What the requests that should meet the same handler have in common. */
  readonly stickyKey: string | undefined
  readonly bodyBytesMax: number
}

export type BodyLimits = Readonly<Record<Role, number>>
export type Decision = { readonly answer: EdgeAnswer } | { readonly forward: Forward; readonly answer?: undefined }

export function decide(request: RequestLine, limits: BodyLimits): Decision {
  // No role has anything to add to it.
  if (request.method === 'OPTIONS') return { answer: { status: 204, headers: preflightHeaders, body: undefined } }
  const to = roleOf(request.method, request.target)
  if (!to) return { answer: unknownPath }
  const bodyBytesMax = limits[to.role]
  if (request.contentLength !== undefined && request.contentLength > bodyBytesMax) return { answer: tooLarge }
  return {
    forward: {
      role: to.role,
      stickyKey: stickyKeyOf(to, request),
      bodyBytesMax,
    },
  }
}

function stickyKeyOf({ sticky, room }: RoutedTo, { target, authorization }: RequestLine): string | undefined {
  switch (sticky) {
    case undefined:
      return undefined
    case 'room':
      return room
    case 'origin':
      return originOf(authorization)
    case 'user':
      return userKeyOf(authorization, target)
  }
}

/** The part of a token that all tokens of its user share; the whole token where it is none of ours (an appservice's). */
function userKeyOf(authorization: string | undefined, target: string): string | undefined {
  const token = /^bearer +(\S+)/i.exec(authorization ?? '')?.[1] ?? /[?&]access_token=([^&]+)/.exec(target)?.[1]
  return token === undefined ? undefined : (/^g(?:at|rt)_([0-9a-f]{6})_/.exec(token)?.[1] ?? token)
}

/** https://spec.matrix.org/v1.19/server-server-api/#request-authentication */
function originOf(authorization: string | undefined): string | undefined {
  if (authorization === undefined || !/^x-matrix /i.test(authorization)) return undefined
  return /[ ,]origin="?([^",]+)/i.exec(authorization)?.[1]
}
