/** Logs: JSON lines, or text for people. One line an access; tokens and secrets never get in. */
import { pino } from 'pino'
import { requestContext } from './request-context.ts'

export interface LogFields {
  readonly [key: string]: unknown
}

/** What everything logs to; a child adds fields to each of its lines. */
export interface Logger {
  trace(fields: LogFields, message: string): void
  debug(fields: LogFields, message: string): void
  info(fields: LogFields, message: string): void
  warn(fields: LogFields, message: string): void
  error(fields: LogFields, message: string): void
  child(fields: LogFields): Logger
  isLevelEnabled(level: string): boolean
  /** Writes out what is buffered. */
  flush(): void
}

export interface LogOptions {
  readonly level: 'trace' | 'debug' | 'info' | 'warn' | 'error'
  readonly format: 'json' | 'pretty'
}

/** Lines gather and go out together: a write per access would cost more than many a request. */
const bufferBytes = 8192
const flushEveryMs = 200

export function createLogger(options: LogOptions): Logger {
  const destination = pino.destination({ fd: 1, sync: true, minLength: options.format === 'json' ? bufferBytes : 0 })
  const flush = () => {
    try {
      destination.flushSync()
    } catch (error) {
      // A reader of our standard output that went away is no reason to stop serving.
      if ((error as NodeJS.ErrnoException).code !== 'EPIPE' && (error as NodeJS.ErrnoException).code !== 'EAGAIN')
        throw error
    }
  }
  destination.on('error', () => undefined)
  if (options.format === 'json') setInterval(flush, flushEveryMs).unref()
  process.on('exit', flush)
  const logger = pino(
    {
      level: options.level,
      base: { pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: errorFields },
      mixin: requestFields,
    },
    options.format === 'json' ? destination : { write: (line: string) => destination.write(pretty(line)) },
  )
  return withFlush(logger, flush)
}

/** Every line says which request it belongs to; one that names a request itself is taken at its word. */
function requestFields(): object {
  const request = requestContext.getStore()
  return request ? { request_id: request.requestId } : {}
}

/** For tests and for commands whose output is something else. */
export const silentLogger: Logger = withFlush(pino({ level: 'silent' }), () => undefined)

function withFlush(logger: pino.Logger, flush: () => void): Logger {
  return {
    trace: (fields, message) => logger.trace(fields, message),
    debug: (fields, message) => logger.debug(fields, message),
    info: (fields, message) => logger.info(fields, message),
    warn: (fields, message) => logger.warn(fields, message),
    error: (fields, message) => {
      logger.error(fields, message)
      flush()
    },
    child: (fields) => withFlush(logger.child(fields), flush),
    isLevelEnabled: (level) => logger.isLevelEnabled(level),
    flush,
  }
}

/** An error as data, causes included. Messages of databases and HTTP clients may quote what they were given. */
function errorFields(error: unknown): unknown {
  if (!(error instanceof Error)) return redact(String(error))
  const code = (error as { code?: unknown }).code
  return {
    type: error.name,
    message: redact(error.message),
    stack: redact(error.stack ?? ''),
    ...(typeof code === 'string' ? { code } : {}),
    ...(error.cause === undefined ? {} : { cause: errorFields(error.cause) }),
  }
}

const secretsInText = [
  /(access_token=)[^&\s"']+/gi,
  /(\bbearer\s+)[^\s"',]+/gi,
  /(postgres(?:ql)?:\/\/[^:/@\s]*:)[^@\s]+(?=@)/gi,
  /("(?:password|new_password|token|access_token|refresh_token|mac|secret)"\s*:\s*")[^"]*/gi,
]

/** The text without what would let its reader act as somebody else. */
export function redact(text: string): string {
  return secretsInText.reduce((result, pattern) => result.replace(pattern, '$1[redacted]'), text)
}

const colours: Record<string, string> = { trace: '90', debug: '36', info: '32', warn: '33', error: '31' }

function pretty(line: string): string {
  const { level, time, pid: _, msg, err, ...fields } = JSON.parse(line) as Record<string, unknown>
  const label = String(level).toUpperCase().padEnd(5)
  const painted = process.stdout.isTTY ? `\x1b[${colours[String(level)] ?? '0'}m${label}\x1b[0m` : label
  const rest = Object.entries(fields)
    .map(([key, value]) => ` ${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join('')
  return `${String(time).slice(11, 23)} ${painted} ${String(msg ?? '')}${rest}${err ? `\n${prettyError(err)}` : ''}\n`
}

function prettyError(error: unknown): string {
  if (typeof error !== 'object' || error === null) return `  ${String(error)}`
  const { stack, cause } = error as { stack?: string; cause?: unknown }
  return `  ${(stack ?? JSON.stringify(error)).replaceAll('\n', '\n  ')}${cause ? `\n  caused by:\n${prettyError(cause)}` : ''}`
}
