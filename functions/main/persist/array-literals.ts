/** Arrays as Postgres literals: the driver's own serialiser costs several times as much. */
import { pgText } from '../../../shared/storage/sql.ts'

export function integers(values: readonly (number | undefined)[]): string {
  let literal = '{'
  for (let i = 0; i < values.length; i++) literal += i === 0 ? (values[i] ?? 'NULL') : `,${values[i] ?? 'NULL'}`
  return `${literal}}`
}
/** Text as Postgres can hold it: no U+0000, no lone surrogates. */
export function storable(value: string): string {
  return pgText(value.isWellFormed() ? value : value.toWellFormed())
}
/** What a quoted text in an array's literal cannot hold as it is; one look tells for nearly every text. */
const unquotable = /["\\\0\uD800-\uDFFF\uE000]/
export function texts(values: readonly (string | undefined)[]): string {
  let literal = '{'
  for (let i = 0; i < values.length; i++) {
    if (i > 0) literal += ','
    const value = values[i]
    if (value === undefined) literal += 'NULL'
    else literal += unquotable.test(value) ? `"${storable(value).replace(/["\\]/g, '\\$&')}"` : `"${value}"`
  }
  return `${literal}}`
}
