import type { DeviceListRow } from '../../shared/streams/device-lists.ts'

const rowsMax = 5_000

/** The newest changes of device lists, of whichever user. */
export class DeviceListLog {
  /** All after position `from`, oldest first. */
  private rows: DeviceListRow[] = []
  private from: number

  constructor(from: number) {
    this.from = from
  }

  add(row: DeviceListRow): void {
    this.rows.push(row)
    if (this.rows.length > rowsMax) {
      const dropped = this.rows.splice(0, rowsMax / 2)
      this.from = dropped.at(-1)?.position ?? this.from
    }
  }

  /** Rows at positions in (after, upTo], newest first; undefined where the memory does not reach that far back. */
  between(after: number, upTo: number): DeviceListRow[] | undefined {
    if (after < this.from) return undefined
    const found: DeviceListRow[] = []
    for (let i = this.rows.length - 1; i >= 0; i--) {
      const row = this.rows[i]
      if (!row || row.position <= after) break
      if (row.position <= upTo) found.push(row)
    }
    return found
  }
}
