/** A checkout of the specification's kind, with what its descriptions make use of. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { extract } from './extract.ts'

const files = {
  'api/client-server/things.yaml': `
servers: [{ url: "{basePath}", variables: { basePath: { default: /_matrix/client/v3 } } }]
paths:
  "/thing/{id}":
    get:
      operationId: getThing
      description: Gets it.
      responses:
        "200":
          description: It.
          headers:
            Location: { required: true, schema: { type: string } }
            X-Other: { schema: { type: string } }
          content:
            application/json:
              schema: { $ref: definitions/thing.yaml }
              examples: { response: { value: { name: x } } }
        "404": { $ref: '#/components/responses/missing' }
    parameters: []
  "/thing/{id} ":
    get:
      operationId: getOther
      responses: { "200": { description: Nothing. } }
components:
  responses:
    missing:
      content: { application/json: { schema: { $ref: definitions/thing.yaml#/properties/part } } }
`,
  'api/client-server/definitions/thing.yaml': `
type: object
title: Thing
x-addedInMatrixVersion: "1.2"
properties:
  description: { type: [string, "null"], description: A text., example: a, x-pattern: b }
  part: { allOf: [{ $ref: "thing.yaml" }, { $ref: ../../../event-schemas/event.yaml }] }
additionalProperties: false
`,
  'event-schemas/event.yaml': '{ $schema: "https://json-schema.org/draft/2020-12/schema", enum: [1] }',
}

test('references are followed from file to file, names of properties are not taken for keywords', () => {
  const checkout = mkdtempSync(path.join(tmpdir(), 'ganglion-specification-'))
  onTestFinished(() => rmSync(checkout, { recursive: true }))
  for (const [name, text] of Object.entries(files)) {
    const file = path.join(checkout, 'data', name)
    mkdirSync(path.dirname(file), { recursive: true })
    writeFileSync(file, text)
  }
  const thing = 'client-server.definitions.thing'
  const endpoint = { method: 'GET', path: '/_matrix/client/v3/thing/{id}' }
  const part = { allOf: [{ $ref: `#/schemas/${thing}` }, { $ref: '#/schemas/event-schemas.event' }] }
  expect(extract(checkout, 'v1.2')).toEqual({
    version: 'v1.2',
    operations: {
      getThing: {
        ...endpoint,
        responses: {
          200: { types: ['application/json'], schema: { $ref: `#/schemas/${thing}` }, requiredHeaders: ['location'] },
          404: {
            types: ['application/json'],
            schema: { $ref: `#/schemas/${thing}.properties.part` },
            requiredHeaders: [],
          },
        },
      },
      getOther: { ...endpoint, responses: { 200: { types: [], requiredHeaders: [] } } },
    },
    schemas: {
      [thing]: {
        type: 'object',
        properties: { description: { type: ['string', 'null'] }, part },
        additionalProperties: false,
      },
      [`${thing}.properties.part`]: part,
      'event-schemas.event': { enum: [1] },
    },
  })
})
