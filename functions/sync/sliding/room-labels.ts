/** How a user sorts their rooms: which are direct chats, and which tags they carry. Read once, then moved on by what the user
 *  changes. https://spec.matrix.org/v1.19/client-server-api/#mdirect */
import { isJsonObject } from '../../../shared/matrix/json-value.ts'
import type { ReadSql } from '../../../shared/storage/sql.ts'
import { roomLabels } from '../../../shared/storage/sync-sliding.ts'
import type { LiveUser } from '../live-user.ts'
import type { Soon } from '../soon.ts'

export interface RoomLabels {
  readonly direct: ReadonlySet<string>
  readonly tags: ReadonlyMap<number, readonly string[]>
}

interface Kept {
  direct: ReadonlySet<string>
  readonly tags: Map<number, readonly string[]>
  /** In stream account_data. */
  at: number
}

const kept = new WeakMap<LiveUser, Kept>()

/** As the user's entry knows them. */
export function labelsOf(sql: ReadSql, user: LiveUser): Soon<RoomLabels> {
  const known = kept.get(user)
  if (known && known.at >= user.accountDataFrom) {
    if (user.accountData > known.at) {
      for (const row of user.recentAccountData) if (row.position > known.at) apply(known, row)
      known.at = user.accountData
    }
    return known
  }
  return read(sql, user)
}

async function read(sql: ReadSql, user: LiveUser): Promise<RoomLabels> {
  // What comes while this is read is applied once more by the next to ask.
  const at = Math.max(user.accountData, user.accountDataFrom)
  const labels: Kept = { direct: new Set(), tags: new Map(), at }
  for (const row of await roomLabels(sql, user.user_id)) apply(labels, row)
  kept.set(user, labels)
  return labels
}

function apply(
  labels: Kept,
  row: { readonly type: string; readonly room_nid: number; readonly content: string },
): void {
  if (row.type === 'm.direct' && row.room_nid === 0) labels.direct = directRooms(row.content)
  else if (row.type === 'm.tag' && row.room_nid !== 0) labels.tags.set(row.room_nid, tagNames(row.content))
}

function directRooms(text: string): ReadonlySet<string> {
  const content: unknown = JSON.parse(text)
  const rooms = new Set<string>()
  if (!isJsonObject(content)) return rooms
  for (const list of Object.values(content)) {
    if (!Array.isArray(list)) continue
    for (const room of list) if (typeof room === 'string') rooms.add(room)
  }
  return rooms
}

function tagNames(text: string): readonly string[] {
  const content: unknown = JSON.parse(text)
  return isJsonObject(content) && isJsonObject(content.tags) ? Object.keys(content.tags) : []
}
