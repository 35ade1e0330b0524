/** The largest of the values noted lately: between one window and two, so that no peak falls between two readers. */
export class WindowMax {
  private readonly windowMs: number
  private readonly now: () => number
  private endsAt = 0
  private current = 0
  private before = 0

  /** `now` gives milliseconds that only rise. */
  constructor(windowMs = 15_000, now: () => number = performance.now.bind(performance)) {
    this.windowMs = windowMs
    this.now = now
  }

  note(value: number): void {
    this.turn()
    if (value > this.current) this.current = value
  }

  /** 0 where nothing was noted. */
  read(): number {
    this.turn()
    return Math.max(this.current, this.before)
  }

  private turn(): void {
    const now = this.now()
    if (now < this.endsAt) return
    this.before = now - this.endsAt < this.windowMs ? this.current : 0
    this.current = 0
    this.endsAt = now + this.windowMs
  }
}
