/** End-to-end encryption as clients do it, and what it asks of a server that is one process. */
import { describeEncryption } from './encryption-story.ts'

describeEncryption('one process')
