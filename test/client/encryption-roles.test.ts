/** End-to-end encryption as clients do it, over roles as processes of their own. */
import { describeEncryption } from './encryption-story.ts'

describeEncryption('roles')
