/** The judge of answers itself: what it lets pass and what it doesn't. */
import { describe, expect, test } from 'vitest'
import { createJudge, type Exchange } from './judge.ts'
import type { JsonSchema, Specification } from './specification.ts'

const object = (properties: Record<string, unknown>, required: readonly string[] = []) => ({
  type: 'object',
  properties,
  required,
})
const json = (schema: JsonSchema) => ({ types: ['application/json'], schema, requiredHeaders: [] })
const { judge } = createJudge({
  version: 'v0',
  operations: {
    getThing: {
      method: 'GET',
      path: '/_matrix/client/v3/thing/{id}',
      responses: {
        200: json({ $ref: '#/schemas/thing' }),
        403: json(object({ version: { type: 'string' } }, ['version'])),
        429: json(object({ retry_after_ms: { type: 'integer' } }, ['errcode', 'retry_after_ms'])),
      },
    },
    putThing: {
      method: 'PUT',
      path: '/_matrix/client/v3/thing/{id}',
      responses: {
        200: { ...json(object({})), requiredHeaders: ['etag'] },
        401: json(object({ flows: { type: 'array' }, session: { type: 'string' } }, ['flows'])),
      },
    },
    sendThis: {
      method: 'POST',
      path: '/_matrix/client/v3/send',
      responses: { 200: json(object({ this: {} }, ['this'])) },
    },
    sendThat: {
      method: 'POST',
      path: '/_matrix/client/v3/send',
      responses: { 200: json(object({ that: {} }, ['that'])) },
    },
    getState: {
      method: 'GET',
      path: '/_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}',
      responses: { 200: json(object({})) },
    },
  },
  schemas: {
    thing: {
      ...object({ owner: { type: 'string', format: 'mx-user-id' }, part: { $ref: '#/schemas/thing' } }, ['owner']),
    },
  },
} satisfies Specification)

const headers = new Map([
  ['access-control-allow-origin', '*'],
  ['content-type', 'application/json'],
])
const of = (given: Partial<Omit<Exchange, 'body'>> & { readonly body?: unknown }) => {
  const { body = {}, ...rest } = given
  return judge({
    method: 'GET',
    target: '/_matrix/client/v3/thing/1',
    status: 200,
    headers,
    ...rest,
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })
}
const error = { errcode: 'M_FORBIDDEN', error: 'You may not' }

describe('valid', () => {
  test.each([
    ['a body by its schema', { body: { owner: '@a:b', part: { owner: '@c:d' } } }, ['getThing']],
    ['with more than the specification has', { body: { owner: '@a:b', 'org.example.more': 1 } }, ['getThing']],
    ['the path of old clients', { target: '/_matrix/client/r0/thing/1?x=/y', body: { owner: '@a:b' } }, ['getThing']],
    ['a step back', { target: '/_matrix/client/v3/x/%2e%2e/thing/1', body: { owner: '@a:b' } }, ['getThing']],
    ['an encoded slash', { target: '/_matrix/client/v3/thing/a%2Fb', body: { owner: '@a:b' } }, ['getThing']],
    ['a standard error of any status', { status: 404, body: error }, ['getThing']],
    ['a standard error in the place of another', { status: 403, body: error }, ['getThing']],
    ['an error with a schema of its own', { status: 403, body: { version: '1' } }, ['getThing']],
    ['a question for authentication', { method: 'PUT', status: 401, body: { flows: [], session: 's' } }, ['putThing']],
    ['headers that nobody saw', { method: 'PUT', headers: undefined }, ['putThing']],
    ['one of two', { method: 'POST', target: '/_matrix/client/v3/send', body: { that: 1 } }, ['sendThat']],
    [
      'either of two',
      { method: 'POST', target: '/_matrix/client/v3/send', status: 403, body: error },
      ['sendThis', 'sendThat'],
    ],
    ['no state key', { target: '/_matrix/client/v3/rooms/!a/state/m.room.name' }, ['getState']],
    ['an empty state key', { target: '/_matrix/client/v3/rooms/!a/state/m.room.name/' }, ['getState']],
    ['what is not in the specification', { target: '/_matrix/client/unstable/thing', body: 'anything' }, []],
    ['a preflight', { method: 'OPTIONS', status: 204, body: '' }, []],
  ] as const)('%s', (_, given, operations) => expect(of(given)).toEqual({ operations, complaints: [] }))
})

describe('not valid', () => {
  test.each([
    ['a missing key', { body: {} }, "at the top: must have required property 'owner'"],
    ['a wrong type, deep', { body: { owner: '@a:b', part: { owner: 1 } } }, 'at /part/owner: must be string'],
    ['a user id that is none', { body: { owner: 'a' } }, 'at /owner: must match format "mx-user-id"'],
    ['no JSON', { body: '<html>' }, 'the body is not JSON'],
    ['a status that is not there', { status: 201, body: { owner: '@a:b' } }, 'status 201 is none'],
    ['another content type', { headers: new Map([...headers, ['content-type', 'text/html']]) }, 'text/html'],
    ['no CORS header', { headers: new Map([['content-type', 'application/json']]) }, 'no CORS header'],
    ['a missing header', { method: 'PUT' }, 'the header etag is missing'],
    ['neither of two', { method: 'POST', target: '/_matrix/client/v3/send', body: {} }, "required property 'this'"],
    ['an error without a code', { status: 404, body: { error: 'No' } }, "required property 'errcode'"],
    ['an error without words', { status: 404, body: { errcode: 'M_NOT_FOUND' } }, "required property 'error'"],
    ['a code that is none', { status: 404, body: { errcode: 'no', error: 'No' } }, 'at /errcode'],
    ['an error that is a text', { status: 502, body: 'Bad Gateway' }, 'an error whose body is not JSON'],
    ['an error of an unknown path', { target: '/_matrix/client/v9/x', status: 404, body: {} }, "property 'errcode'"],
    ['a limit that says no time', { status: 429, body: { errcode: 'M_LIMIT_EXCEEDED', error: 'x' } }, 'retry_after_ms'],
    ['a question for authentication that is none', { method: 'PUT', status: 401, body: { flows: 1 } }, 'at /flows'],
    ['a failure', { status: 500, body: { errcode: 'M_UNKNOWN', error: 'x' } }, 'the server failed unexpectedly'],
  ] as const)('%s', (_, given, complaint) => {
    expect(of(given).complaints.join('\n')).toContain(complaint)
  })
})
