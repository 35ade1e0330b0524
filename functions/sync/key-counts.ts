/** What a device that syncs has left to be claimed, as its answers tell it.
 *  https://spec.matrix.org/v1.19/client-server-api/#e2e-extensions-to-sync */
import type { UserId } from '../../shared/matrix/ids.ts'
import { keyCountsOf } from '../../shared/storage/device-lists.ts'
import type { ReadSql } from '../../shared/storage/sql.ts'
import type { Soon } from './soon.ts'

export class DeviceKeyCounts {
  /** Where they last changed, in stream key_counts, as far as is known. */
  position = 0
  private text: string | undefined
  /** Rises when what is being read may be out of date. */
  private epoch = 0

  /** The stream told of a change: what it is now is read when somebody asks. */
  moved(position: number): void {
    this.position = Math.max(this.position, position)
    this.forget()
  }

  forget(): void {
    this.text = undefined
    this.epoch++
  }

  /** Members of an answer, as JSON text. Asks the database once a change. */
  json(sql: ReadSql, user_id: UserId, device_id: string): Soon<string> {
    return this.text ?? this.read(sql, user_id, device_id)
  }

  private async read(sql: ReadSql, user_id: UserId, device_id: string): Promise<string> {
    for (;;) {
      const { epoch } = this
      const { one_time, unused_fallback, position } = await keyCountsOf(sql, user_id, device_id)
      if (epoch !== this.epoch) continue
      this.position = Math.max(this.position, position)
      this.text = `"device_one_time_keys_count":${JSON.stringify(one_time)},"device_unused_fallback_key_types":${JSON.stringify(unused_fallback)}`
      return this.text
    }
  }
}
