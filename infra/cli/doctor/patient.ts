/** Whom the doctor looks at, and with what. */
import type { Clock } from '../../../shared/clock.ts'
import type { Config } from '../../../shared/config/schema.ts'
import type { AddressRules } from '../../../shared/egress/address-rules.ts'
import type { Egress } from '../../../shared/egress/egress.ts'
import type { Resolver } from '../../../shared/egress/resolver.ts'
import type { SigningKeys } from '../../../shared/federation/federation.ts'
import type { SrvLookup } from '../../../shared/federation/srv.ts'
import type { ServerName } from '../../../shared/matrix/ids.ts'

export interface Patient {
  readonly name: ServerName
  /** Where it is the server of the configuration. */
  readonly own?: OwnServer | undefined
}

export interface OwnServer {
  readonly config: Config
  /** undefined: the file is not to be read here. */
  readonly signingKeys: SigningKeys | undefined
}

export interface Instruments {
  /** Reaches private addresses too: whether others would is a finding by itself. */
  readonly egress: Egress
  readonly resolve: Resolver
  readonly srv: SrvLookup
  /** What servers reach by the configuration, or by default. */
  readonly rules: AddressRules
  readonly clock: Clock
  /** PEM of certificates that vouch for servers beside the usual ones. */
  readonly ca?: string | undefined
}
