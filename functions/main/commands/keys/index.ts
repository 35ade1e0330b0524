/** Wires the commands on keys; `createMain` takes their handlers. */
import type { Clock } from '../../../../shared/clock.ts'
import type { keyCommands } from '../../../../shared/commands/keys.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { MainSql } from '../../../../shared/storage/sql.ts'
import type { KeyedQueue } from '../../keyed-queue.ts'
import type { Committer } from '../../persist/writes.ts'
import { claimHandlers } from './claim.ts'
import { crossSigningHandlers } from './cross-signing.ts'
import { signatureHandlers } from './signatures.ts'
import { uploadHandlers } from './upload.ts'

export interface KeyDeps {
  readonly sql: MainSql
  readonly committer: Committer
  readonly clock: Clock
  /** The one in which a user's sessions change: no device goes while its keys are taken. */
  readonly queue: KeyedQueue
}

export function createKeys(deps: KeyDeps): Pick<MainClient, keyof typeof keyCommands> {
  return {
    ...uploadHandlers(deps),
    ...claimHandlers(deps),
    ...crossSigningHandlers(deps),
    ...signatureHandlers(deps),
  }
}
