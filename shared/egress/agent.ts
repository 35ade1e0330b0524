/** What is used of undici, in a file of its own: it is loaded late, and of a CommonJS package that is imported by `import()`,
 *  a bundle knows no names. */
export { Agent } from 'undici'
