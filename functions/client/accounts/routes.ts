import * as account from './account.ts'
import * as devices from './devices.ts'
import { getLogin, postLogin, postLoginGetToken } from './login.ts'
import * as moderation from './moderation.ts'
import { requestOpenIdToken } from './openid.ts'
import { getRegisterAvailable, getRegistrationTokenValidity, postRegister } from './register.ts'
import * as registrationTokens from './registration-tokens.ts'
import * as serverInfo from './server-info.ts'
import * as sessions from './sessions.ts'
import { getSharedSecretNonce, postSharedSecretRegister } from './shared-secret.ts'
import { getTurnServer } from './turn-server.ts'
import { getWhois } from './whois.ts'

export const accountRoutes = [
  ...Object.values(serverInfo),
  postRegister,
  getRegisterAvailable,
  getRegistrationTokenValidity,
  ...Object.values(registrationTokens),
  ...Object.values(moderation),
  getSharedSecretNonce,
  postSharedSecretRegister,
  getLogin,
  postLogin,
  postLoginGetToken,
  ...Object.values(sessions),
  ...Object.values(devices),
  ...Object.values(account),
  getWhois,
  requestOpenIdToken,
  getTurnServer,
] as const
