/** Holds one answer of the client-server API against the specification: its status, headers and body. */
import { Ajv2020, type ErrorObject, type ValidateFunction } from 'ajv/dist/2020.js'
import { corrected } from './corrections.ts'
import {
  isRecord,
  type JsonSchema,
  operationRouter,
  type ResponseShape,
  readSpecification,
  type Specification,
} from './specification.ts'

export interface Exchange {
  readonly method: string
  /** As it was asked for: with the query. */
  readonly target: string
  readonly status: number
  /** Names in lower case; undefined where the client that was used doesn't tell. */
  readonly headers: ReadonlyMap<string, string> | undefined
  readonly body: string
}

export interface Verdict {
  /** By operationId; none for paths that the specification doesn't have. Where there are two, those that it is valid for. */
  readonly operations: readonly string[]
  /** What is wrong; empty where all is well. */
  readonly complaints: readonly string[]
}

export interface Judge {
  judge(exchange: Exchange): Verdict
}

/** What references to the whole description begin with. */
const name = 'specification'

/** https://spec.matrix.org/v1.19/client-server-api/#standard-error-response; Ganglion always says what is wrong, too. */
const standardError: JsonSchema = {
  type: 'object',
  required: ['errcode', 'error'],
  properties: {
    errcode: { type: 'string', pattern: '^(?:M_[A-Z0-9_]+|[A-Z0-9]+(?:[._][A-Z0-9]+)+)$' },
    error: { type: 'string', minLength: 1 },
    retry_after_ms: { type: 'integer', minimum: 0 },
    soft_logout: { type: 'boolean' },
  },
}

/** The specification's names for strings; it gives these as hints, so a format is a shape here and no grammar. */
const formats = {
  'mx-user-id': /^@[^:]*:.+$/s,
  'mx-room-id': /^!.+$/s,
  'mx-room-alias': /^#[^:]*:.+$/s,
  'mx-event-id': /^\$.+$/s,
  'mx-server-name': /^(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z.-]+)(?::\d{1,5})?$/,
  'mx-mxc-uri': /^mxc:\/\/[^/]+\/[^/]+$/,
  'mx-unpadded-base64': /^[0-9A-Za-z+/]*$/,
  'mx-urlsafe-unpadded-base64': /^[0-9A-Za-z_-]*$/,
  uri: (text: string) => URL.canParse(text),
  email: /^[^@\s]+@[^@\s]+$/,
  int64: { type: 'number' as const, validate: Number.isSafeInteger },
  float: { type: 'number' as const, validate: Number.isFinite },
}

export function createJudge(specification: Specification = corrected(readSpecification())): Judge {
  const { operations } = specification
  const router = operationRouter(specification)
  const ajv = new Ajv2020({ strict: false, validateSchema: false, allErrors: false, verbose: false, formats })
  ajv.addSchema({ ...specification }, name)
  const compiled = new Map<string, ValidateFunction>()
  const isStandardError = ajv.compile(standardError)

  /** Compiled when first asked for: few tests meet more than a few operations. */
  function validatorOf(operation: string, status: number): ValidateFunction {
    const at = `${name}#/operations/${operation}/responses/${status}/schema`
    const validate = compiled.get(at) ?? ajv.compile({ $ref: at })
    compiled.set(at, validate)
    return validate
  }

  function ofError({ status, body }: Exchange, candidates: readonly string[]): string[] {
    if (status === 500) return ['the server failed unexpectedly']
    const parsed = parse(body)
    if (!parsed) return ['an error whose body is not JSON']
    const special = candidates
      .filter((id) => operations[id]?.responses[status]?.schema !== undefined)
      .map((id) => validatorOf(id, status))
    const valid = special.some((validate) => validate(parsed.value))
    const [first] = special
    // The first answers of user-interactive auth are no standard errors. Any other code may come with any status.
    const asksForAuth = isRecord(parsed.value) && Object.hasOwn(parsed.value, 'flows')
    if (first && (asksForAuth || status === 429)) return valid ? [] : told(first)
    const isStandard = isStandardError(parsed.value)
    return isStandard || (valid && !isErrorLike(parsed.value)) ? [] : told(isStandardError)
  }

  function ofSuccess(operation: string, exchange: Exchange): string[] {
    const { status, headers } = exchange
    const shape = operations[operation]?.responses[status]
    // Of HTTP itself, for whoever asked for a part, or for what it has already.
    if (!shape && (status === 206 || status === 304)) return []
    if (!shape) return [`status ${status} is none that the specification has for it`]
    const complaints = headers ? ofHeaders(shape, headers) : []
    if (shape.schema === undefined || exchange.method === 'HEAD') return complaints
    const parsed = parse(exchange.body)
    if (!parsed) return [...complaints, 'the body is not JSON']
    const validate = validatorOf(operation, status)
    return validate(parsed.value) ? complaints : [...complaints, ...told(validate)]
  }

  return {
    judge(exchange) {
      const { method, status, headers, target } = exchange
      // As a server reads it, and fetch has sent it: `%2e%2e` is one step back.
      const { pathname } = new URL(`http://server${target}`)
      const path = pathname.replace(/^\/_matrix\/client\/r0\//, '/_matrix/client/v3/')
      const match = router.find(method === 'HEAD' ? 'GET' : (method as 'GET'), path)
      const candidates = match.found === 'endpoint' ? match.endpoint.target : []
      // A page is for people, and is no part of the API.
      if (candidates.length === 0 && isPage(headers) && status !== 500) return { operations: [], complaints: [] }
      const general = [
        ...(headers ? ofEveryAnswer(headers) : []),
        ...(status >= 400 && method !== 'HEAD' ? ofError(exchange, candidates) : []),
      ]
      const verdicts = candidates.map((id) => ({ id, found: status < 400 ? ofSuccess(id, exchange) : [] }))
      const valid = verdicts.filter(({ found }) => found.length === 0).map(({ id }) => id)
      return valid.length > 0 || candidates.length === 0
        ? { operations: valid, complaints: general }
        : { operations: candidates, complaints: [...general, ...(verdicts[0]?.found ?? [])] }
    },
  }
}

function isPage(headers: Exchange['headers']): boolean {
  return headers?.get('content-type')?.startsWith('text/html') === true
}

/** https://spec.matrix.org/v1.19/client-server-api/#web-browser-clients */
function ofEveryAnswer(headers: ReadonlyMap<string, string>): string[] {
  return headers.get('access-control-allow-origin') === '*' ? [] : ['a browser may not read it: no CORS header']
}

function ofHeaders({ types, requiredHeaders }: ResponseShape, headers: ReadonlyMap<string, string>): string[] {
  const complaints = requiredHeaders.filter((name) => !headers.has(name)).map((name) => `the header ${name} is missing`)
  const type = headers.get('content-type')?.replace(/;.*$/s, '').trim()
  if (types.includes('application/json') && type !== 'application/json') {
    complaints.push(`the content type is ${type}, not application/json`)
  }
  return complaints
}

const isErrorLike = (value: unknown): boolean => isRecord(value) && Object.hasOwn(value, 'errcode')

function told({ errors }: ValidateFunction): string[] {
  return (errors ?? []).map(({ instancePath, message, params }: ErrorObject) => {
    return `at ${instancePath === '' ? 'the top' : instancePath}: ${message} ${JSON.stringify(params)}`
  })
}

function parse(body: string): { readonly value: unknown } | undefined {
  try {
    return { value: JSON.parse(body) }
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}
