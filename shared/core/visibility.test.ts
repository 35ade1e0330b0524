import { describe, expect, test } from 'vitest'
import { type HistoryVisibility, historyVisibilityOf, visibleTo } from './visibility.ts'

describe('client-server-api/#room-history-visibility server behaviour', () => {
  // Per visibility: memberships at the event that may see it, without and with a join later on.
  const all = [undefined, 'join', 'invite', 'knock', 'leave', 'ban']
  const table: Record<HistoryVisibility, { never: (string | undefined)[]; later: (string | undefined)[] }> = {
    world_readable: { never: all, later: all },
    shared: { never: ['join'], later: all },
    invited: { never: ['join', 'invite'], later: ['join', 'invite'] },
    joined: { never: ['join'], later: ['join'] },
  }
  test.each(
    (Object.keys(table) as HistoryVisibility[]).flatMap((visibility) =>
      all.flatMap((membership) => [false, true].map((joinedLater) => ({ visibility, membership, joinedLater }))),
    ),
  )('$visibility, $membership, joined later: $joinedLater', (question) => {
    const seers = table[question.visibility][question.joinedLater ? 'later' : 'never']
    expect(visibleTo(question)).toBe(seers.includes(question.membership))
  })

  test.each<[HistoryVisibility, HistoryVisibility, boolean]>([
    ['world_readable', 'joined', true],
    ['joined', 'world_readable', true],
    ['joined', 'invited', false],
  ])('a change from %s to %s is seen if either allows it', (visibility, visibilityAfter, expected) =>
    expect(visibleTo({ visibility, visibilityAfter, membership: undefined, joinedLater: true })).toBe(expected),
  )

  test.each([
    [undefined, 'join', true],
    ['join', 'leave', true],
    ['invite', 'leave', false],
    ['leave', 'ban', false],
  ])('one’s own change from %s to %s, with joined', (membership, membershipAfter, expected) =>
    expect(visibleTo({ visibility: 'joined', membership, membershipAfter, joinedLater: false })).toBe(expected),
  )

  test.each([
    ['invited', 'invited'],
    ['secret', 'shared'],
    [undefined, 'shared'],
    [7, 'shared'],
  ])('%j counts as %s', (value, expected) => expect(historyVisibilityOf(value)).toBe(expected))
})
