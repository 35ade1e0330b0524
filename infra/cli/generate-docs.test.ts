import { readFileSync } from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { generatedDocs } from './generate-docs.ts'

test.each(generatedDocs().map(({ file, text }) => ({ name: path.basename(file), file, text })))(
  '$name is what `npm run docs` writes',
  ({ file, text }) => expect(readFileSync(file, 'utf8')).toBe(text),
)
