/** All checks, in the order in which one needs the other. */
import { asker, checkClientDocument, checkKeys, checkPaths, checkVersion, notAsked } from './answers.ts'
import { checkCertificates } from './certificate.ts'
import { type Finding, ok, wrong } from './finding.ts'
import type { Instruments, Patient } from './patient.ts'
import { findWhereabouts } from './whereabouts.ts'

/** Places that are looked at: others do not try more either before they give up. */
const placesMax = 4

export async function* diagnose(patient: Patient, instruments: Instruments): AsyncGenerator<Finding> {
  if (patient.own) yield checkSettings(patient.name, patient.own)
  const { findings, places } = await findWhereabouts(patient, instruments)
  yield* findings
  for (const place of places.slice(0, placesMax)) {
    const { findings: certificates, usable } = await checkCertificates(place, instruments)
    yield* certificates
    if (!usable) {
      yield* notAsked()
      continue
    }
    const ask = asker(place, instruments)
    yield await checkVersion(ask)
    yield await checkKeys(ask, patient, instruments)
    yield await checkPaths(ask, patient)
  }
  yield await checkClientDocument(patient, instruments)
}

function checkSettings(name: string, { config, signingKeys }: NonNullable<Patient['own']>): Finding {
  const check = 'configuration'
  if (!config.federation.enabled) {
    return wrong(
      check,
      'federation.enabled is false: this server has nothing to do with others',
      'set federation.enabled',
    )
  }
  if (!signingKeys) {
    return wrong(
      check,
      'the signing key is not there, or not to be read by this user',
      'run the doctor as the server’s user, or set signing_key_path',
    )
  }
  return ok(check, `${name} signs with ${signingKeys[0].keyId}`)
}
