/** The texts of messages. `{{name}}` stands for what a message says, and is escaped in HTML. An operator's folder may have
 *  files in their place. */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import type { Config } from '../../../shared/config/schema.ts'
import { escapeHtml } from '../../../shared/escape-html.ts'
import type { Template, Variables } from './messages.ts'

export interface Text {
  readonly subject: string
  readonly text: string
  readonly html: string
}

export interface Templates {
  mail(template: Template, variables: Variables): Text
  /** Of a short message, which has room for a code. */
  sms(template: Template, variables: Variables): string
}

interface Words {
  readonly lines: readonly string[]
  /** What the link is called. */
  readonly link?: string
}

const ignore = 'If you did not ask for this, you need do nothing.'
const builtIn: Readonly<Record<Template, Words>> = {
  registration: {
    lines: ['Somebody, hopefully you, registers at {{app_name}} with this email address.', ignore],
    link: 'Confirm your email address',
  },
  already_registered: {
    lines: [
      'Somebody, hopefully you, tried to register at {{app_name}} with this email address, which belongs to an account there already.',
      'If you have forgotten its password, ask your app for a new one.',
      'If it was not you, you need do nothing.',
    ],
  },
  add: {
    lines: ['Somebody, hopefully you, adds this email address to an account at {{app_name}}.', ignore],
    link: 'Confirm your email address',
  },
  password_reset: {
    lines: [
      'Somebody, hopefully you, asked to set a new password for the account at {{app_name}} that this email address belongs to.',
      'Confirm only if it was you: who asked can set a new password then.',
    ],
    link: 'Confirm that it was you',
  },
  renewal: {
    lines: ['Hello {{display_name}},', 'your account {{user_id}} at {{app_name}} expires on {{expires}}.'],
    link: 'Renew your account',
  },
}

/** Throws where a file of the operator's folder can't be read. */
export function loadTemplates(config: Config): Templates {
  const { templates_path, subjects } = config.email
  const own = (template: Template, kind: 'txt' | 'html'): string | undefined => {
    if (templates_path === undefined) return undefined
    try {
      return readFileSync(path.join(templates_path, `${template}.${kind}`), 'utf8')
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
      throw error
    }
  }
  const names = Object.keys(builtIn) as Template[]
  const texts = new Map(
    names.map((name) => [
      name,
      { text: own(name, 'txt') ?? plain(builtIn[name]), html: own(name, 'html') ?? markup(builtIn[name]) },
    ]),
  )
  return {
    mail(template, variables) {
      const { text = '', html = '' } = texts.get(template) ?? {}
      return {
        // A line feed would begin another header.
        subject: fill(subjects[template], variables, (value) => value).replace(/\s+/g, ' '),
        text: fill(text, variables, (value) => value),
        html: fill(html, variables, escapeHtml),
      }
    },
    sms: (_, { app_name, code }) => `${code} is your code for ${app_name}. Give it to nobody else.`,
  }
}

function plain({ lines, link }: Words): string {
  return `${[...lines, ...(link ? [`${link}: {{link}}`] : [])].join('\n\n')}\n`
}

function markup({ lines, link }: Words): string {
  const paragraphs = [...lines, ...(link ? [`<a href="{{link}}">${link}</a>`, 'Or open {{link}} in a browser.'] : [])]
  return `<!DOCTYPE html>\n<html lang="en"><body>\n${paragraphs.map((line) => `<p>${line}</p>`).join('\n')}\n</body></html>\n`
}

/** A name that is none stays as it is, so that a mistake shows. */
function fill(text: string, variables: Variables, escaped: (value: string) => string): string {
  const known: Readonly<Record<string, string>> = { ...variables }
  return text.replace(/\{\{\s*(\w+)\s*\}\}/g, (whole, name: string) =>
    Object.hasOwn(known, name) ? escaped(known[name] ?? '') : whole,
  )
}
