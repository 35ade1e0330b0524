import { expect, test } from 'vitest'
import { redact } from './logging.ts'

test.each([
  ['GET /sync?access_token=abc.def&since=1', 'GET /sync?access_token=[redacted]&since=1'],
  ['Authorization: Bearer abc.def', 'Authorization: Bearer [redacted]'],
  ['cannot connect to postgres://me:hush@db/x', 'cannot connect to postgres://me:[redacted]@db/x'],
  ['{"type":"m.login.password","password":"hush"}', '{"type":"m.login.password","password":"[redacted]"}'],
  ['nothing to hide', 'nothing to hide'],
])('%s is logged as %s', (text, logged) => expect(redact(text)).toBe(logged))
