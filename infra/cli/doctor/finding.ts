/** What one check of the doctor came to. */
export interface Finding {
  /** What was looked at, in a few words. */
  readonly check: string
  /** `note`: it works, and could be better; `skipped`: what it needs is not there. */
  readonly outcome: 'ok' | 'note' | 'wrong' | 'skipped'
  /** What was found, one sentence. */
  readonly found: string
  /** What to do about it. */
  readonly fix?: string
}

export function ok(check: string, found: string): Finding {
  return { check, outcome: 'ok', found }
}

export function note(check: string, found: string, fix: string): Finding {
  return { check, outcome: 'note', found, fix }
}

export function wrong(check: string, found: string, fix: string): Finding {
  return { check, outcome: 'wrong', found, fix }
}

export function skipped(check: string, found: string): Finding {
  return { check, outcome: 'skipped', found }
}
