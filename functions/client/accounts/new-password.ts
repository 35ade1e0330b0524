import type { Config } from '../../../shared/config/schema.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'

/** Throws M_WEAK_PASSWORD. Length is what counts; rules on kinds of characters make passwords worse. */
export function checkNewPassword(password: string, config: Config): void {
  if (!config.password.enabled) throw new MatrixError('M_FORBIDDEN', 'This server has no passwords')
  const { minimum_length } = config.password
  if ([...password].length < minimum_length) {
    throw new MatrixError('M_WEAK_PASSWORD', `A password has ${minimum_length} characters at least`)
  }
}
