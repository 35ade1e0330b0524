/** Parses the parts of a request; an error names the key in a sentence. */
import * as v from 'valibot'
import { type Errcode, MatrixError } from '../matrix/matrix-error.ts'

type Schema = v.GenericSchema<unknown, unknown>
type Part = 'path' | 'query' | 'body'

const config = { abortEarly: true, abortPipeEarly: true } as const

/** Throws M_MISSING_PARAM for a key that is not there, M_BAD_JSON for a body of the wrong shape, and M_INVALID_PARAM for
 *  a value that breaks a rule. */
export function parsePart(schema: Schema, value: unknown, part: Part): unknown {
  const result = v.safeParse(schema, value, config)
  if (result.success) return result.output
  throw problem(result.issues[0], part)
}

function problem(issue: v.BaseIssue<unknown>, part: Part): MatrixError {
  const key = v.getDotPath(issue)
  if (!key) return new MatrixError('M_BAD_JSON', `The ${part} is not what it should be: ${sentence(issue)}`)
  const where = part === 'body' ? `Key ${key}` : part === 'query' ? `Query parameter ${key}` : `${key} in the path`
  if (issue.kind === 'schema' && issue.received === 'undefined' && issue.type !== 'never') {
    return new MatrixError('M_MISSING_PARAM', `${where} is missing`)
  }
  const code: Errcode = part === 'body' && issue.kind === 'schema' ? 'M_BAD_JSON' : 'M_INVALID_PARAM'
  return new MatrixError(code, `${where} is not valid: ${sentence(issue)}`)
}

/** The issue in words that repeat nothing of what was sent: it may be a secret. */
function sentence(issue: v.BaseIssue<unknown>): string {
  if (issue.type === 'regex') return 'it does not have the right format'
  if (issue.type === 'check' || issue.type === 'custom') return issue.message
  return issue.expected ? `expected ${issue.expected}` : issue.message
}
