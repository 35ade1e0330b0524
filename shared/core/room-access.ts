/** Who may see what a room is about without being in it.
 *  https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidhierarchy */
import { isJsonObject, type JsonObject, type JsonValue } from '../matrix/json-value.ts'

export interface PreviewQuestion {
  /** Of who asks; null: none, or nobody is logged in. */
  readonly membership: string | null
  /** null: never set, which is as good as `invite`. */
  readonly join_rule: string | null
  readonly history_visibility: string | null
  /** Of a restricted room: whether the asker is joined to one of the rooms that open it. */
  readonly inAllowedRoom: boolean
}

/** True for members and the invited, for rooms that anybody may join, knock on or read, and for restricted rooms that let
 *  the asker in. A ban takes all of that away but what all the world may read. */
export function mayPreview({ membership, join_rule, history_visibility, inAllowedRoom }: PreviewQuestion): boolean {
  if (membership === 'join' || membership === 'invite' || history_visibility === 'world_readable') return true
  if (membership === 'ban') return false
  switch (join_rule) {
    case 'public':
    case 'knock':
    case 'knock_restricted':
      return true
    case 'restricted':
      return inAllowedRoom
    default:
      return false
  }
}

/** The rooms whose members a restricted room lets in, from the content of its m.room.join_rules; without repetitions.
 *  https://spec.matrix.org/v1.19/client-server-api/#restricted-rooms */
export function allowedRooms(joinRules: JsonObject | undefined): string[] {
  const rule = joinRules?.join_rule
  if (rule !== 'restricted' && rule !== 'knock_restricted') return []
  const allow: JsonValue | undefined = joinRules?.allow
  if (!Array.isArray(allow)) return []
  const rooms = new Set<string>()
  for (const condition of allow) {
    if (!isJsonObject(condition) || condition.type !== 'm.room_membership') continue
    if (typeof condition.room_id === 'string') rooms.add(condition.room_id)
  }
  return [...rooms]
}
