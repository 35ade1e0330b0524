/** What is used of the package `yaml`, by name: bundlers give a CommonJS package that is imported later no names. */
export { LineCounter, parse, parseDocument } from 'yaml'
