import { describe, expect, test } from 'vitest'
import { indexTerms, matchedWords, nameTerms, searchTerms } from './words.ts'

describe('client-server-api Server Side Search: words', () => {
  test.each([
    ['Hello, World!', ['hello', 'world']],
    ['Zoë’s ﬁne CAFÉ', ['zoe', 's', 'fine', 'cafe']],
    ['don_t 3.14', ['don_t', '3', '14']],
    ['ΑΘΗΝΑ Привет', ['αθηνα', 'привет']],
    ['東京都', ['東京', '京都', '都']],
    ['a東京b', ['a', '東京', '京', 'b']],
    ['… —', []],
  ])('%s', (text, terms) => expect(indexTerms(text, 100)).toEqual(terms))

  test.each([
    { text: 'The quick brown fox', phrase: 'QUICK fox', words: ['quick', 'fox'] },
    { text: 'Many messages', phrase: 'message', words: ['messages'] },
    { text: 'an ant', phrase: 'an', words: ['an'] },
    { text: 'Zoë', phrase: 'zoe', words: ['Zoë'] },
    { text: '私は東京に住む', phrase: '東京', words: ['東京'] },
    { text: '私は東京に住む', phrase: '住', words: ['住'] },
  ])('$phrase is found in $text', ({ text, phrase, words }) => {
    const terms = searchTerms(phrase, 10)
    expect([...(matchedWords(text, terms) ?? [])]).toEqual(words)
    const index = indexTerms(text, 100)
    for (const { text, prefix } of terms) {
      expect(index.some((one) => one === text || (prefix && one.startsWith(text)))).toBe(true)
    }
  })

  test.each([
    { text: 'The quick brown fox', phrase: 'quick dog' },
    { text: 'ant', phrase: 'an' },
    { text: '東と京', phrase: '東京' },
  ])('$phrase is not found in $text', ({ text, phrase }) => {
    expect(matchedWords(text, searchTerms(phrase, 10))).toBeUndefined()
  })

  test('a name is found by each of its words, and of scripts without spaces by any part', () => {
    expect(nameTerms('Anna-Lena Müller', 10)).toEqual(['anna', 'lena', 'muller'])
    expect(nameTerms('山田太郎', 10)).toEqual(['山田太郎', '田太郎', '太郎', '郎'])
  })
})
