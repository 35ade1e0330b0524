import { describe, expect, test } from 'vitest'
import { type RuleName, roomRules, rulesOf } from './room-versions.ts'

describe('rooms', () => {
  test('versions 1 to 12 are known, and nothing else is', () => {
    const stable = Object.values(roomRules).filter((rules) => rules.stable)
    expect(stable.map((rules) => rules.version)).toEqual(Array.from({ length: 12 }, (_, i) => `${i + 1}`))
    for (const name of ['0', '13', '01', '1 ', '', 'constructor', '__proto__', 'toString']) {
      expect(rulesOf(name)).toBeUndefined()
    }
  })

  test.each(['10', '11'])('version org.matrix.msc3757.%s is that one with owned state', (base) => {
    const version = `org.matrix.msc3757.${base}`
    expect(rulesOf(version)).toEqual({ ...rulesOf(base), version, stable: false, ownedState: true })
  })

  // The columns: versions 1-2, 3-5, 6, 7, 8-9, 10, 11, 12, as the specification's pages number their rules.
  const shown = ['1', '2', '3', '5', '6', '7', '8', '9', '10', '11', '12']
  test.each<[RuleName, (string | undefined)[]]>([
    ['createCreator', ['1.4', '1.4', '1.4', '1.4', '1.4', '1.4', '1.4', '1.4', '1.4', undefined, undefined]],
    ['createAdditionalCreators', [...Array(10).fill(undefined), '1.4']],
    ['createRoomIdDomain', [...Array(10).fill('1.2'), undefined]],
    ['createHasRoomId', [...Array(10).fill(undefined), '1.2']],
    ['roomIsCreate', [...Array(10).fill(undefined), '2']],
    ['authEventsDuplicate', [...Array(10).fill('2.1'), '3.1']],
    ['authEventsCreate', [...Array(10).fill('2.4'), undefined]],
    ['federate', [...Array(10).fill('3'), '4']],
    ['aliases', ['4', '4', '4', '4', ...Array(7).fill(undefined)]],
    ['member', ['5', '5', '5', '5', '4', '4', '4', '4', '4', '4', '5']],
    ['memberAuthorisedSignature', [...Array(6).fill(undefined), '4.2', '4.2', '4.2', '4.2', '5.2']],
    ['join', ['5.2', '5.2', '5.2', '5.2', '4.2', '4.2', '4.3', '4.3', '4.3', '4.3', '5.3']],
    ['joinRestricted', [...Array(6).fill(undefined), '4.3.5', '4.3.5', '4.3.5', '4.3.5', '5.3.5']],
    ['joinPublic', ['5.2.5', '5.2.5', '5.2.5', '5.2.5', '4.2.5', '4.2.5', '4.3.6', '4.3.6', '4.3.6', '4.3.6', '5.3.6']],
    ['ban', ['5.5', '5.5', '5.5', '5.5', '4.5', '4.5', '4.6', '4.6', '4.6', '4.6', '5.6']],
    ['knock', [...Array(5).fill(undefined), '4.6', '4.7', '4.7', '4.7', '4.7', '5.7']],
    ['memberUnknown', ['5.6', '5.6', '5.6', '5.6', '4.6', '4.7', '4.8', '4.8', '4.8', '4.8', '5.8']],
    ['senderJoined', ['6', '6', '6', '6', '5', '5', '5', '5', '5', '5', '6']],
    ['requiredLevel', ['8', '8', '8', '8', '7', '7', '7', '7', '7', '7', '8']],
    ['powerLevels', ['10', '10', '10', '10', '9', '9', '9', '9', '9', '9', '10']],
    ['levelsIntegers', [...Array(8).fill(undefined), '9.1', '9.1', '10.1']],
    ['levelsUsers', ['10.1', '10.1', '10.1', '10.1', '9.1', '9.1', '9.1', '9.1', '9.3', '9.3', '10.3']],
    ['levelsCreators', [...Array(10).fill(undefined), '10.4']],
    ['levelsUsersAfter', ['10.7', '10.7', '10.7', '10.7', '9.7', '9.7', '9.7', '9.7', '9.9', '9.9', '10.10']],
    ['redaction', ['11', '11', ...Array(9).fill(undefined)]],
    ['otherwise', ['12', '12', '11', '11', '10', '10', '10', '10', '10', '10', '11']],
  ])('the number of rule %s', (name, numbers) => {
    expect(shown.map((version) => rulesOf(version)?.ruleNumbers[name])).toEqual(numbers)
  })
})
