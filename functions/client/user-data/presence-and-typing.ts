import * as v from 'valibot'
import { RoomId, UserId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { sharesRoom, storedPresence } from '../../../shared/storage/presence.ts'
import { PresenceState } from '../../../shared/streams/presence.ts'
import { route } from '../deps.ts'

const typingTimeoutDefaultMs = 30_000

export const putTyping = route({
  method: 'PUT',
  path: '/_matrix/client/v3/rooms/:roomId/typing/:userId',
  spec: 'client-server-api/#put_matrixclientv3roomsroomidtypinguserid',
  auth: 'user',
  sticky: 'room',
  params: v.object({ roomId: RoomId, userId: UserId }),
  body: v.object({ typing: v.boolean(), timeout: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0))) }),
  async handle({ params: { roomId, userId }, body, user }, { main }) {
    if (userId !== user.user_id) throw new MatrixError('M_FORBIDDEN', 'You can only tell of your own typing')
    const timeout_ms = body.timeout ?? typingTimeoutDefaultMs
    return main.setTyping({ user_id: userId, room_id: roomId, typing: body.typing, timeout_ms })
  },
})

export const putPresence = route({
  method: 'PUT',
  path: '/_matrix/client/v3/presence/:userId/status',
  spec: 'client-server-api/#put_matrixclientv3presenceuseridstatus',
  auth: 'user',
  limit: 'account',
  params: v.object({ userId: UserId }),
  body: v.object({ presence: PresenceState, status_msg: v.optional(v.pipe(v.string(), v.maxBytes(4096))) }),
  async handle({ params: { userId }, body, user }, { main, config }) {
    if (userId !== user.user_id) throw new MatrixError('M_FORBIDDEN', 'You can only set your own presence')
    if (!config.presence.enabled) return {}
    // Absent means none: a status set earlier ends with the next one.
    return main.setPresence({
      user_id: userId,
      presence: body.presence,
      status_msg: body.status_msg ?? '',
      source: 'client',
    })
  },
})

export const getPresence = route({
  method: 'GET',
  path: '/_matrix/client/v3/presence/:userId/status',
  spec: 'client-server-api/#get_matrixclientv3presenceuseridstatus',
  auth: 'user',
  params: v.object({ userId: UserId }),
  async handle({ params: { userId }, user }, { sql, config, clock, ephemeral }) {
    if (!config.presence.enabled) return { presence: 'offline' }
    if (userId !== user.user_id && !(await sharesRoom(sql, user.user_id, userId))) {
      throw new MatrixError('M_FORBIDDEN', "You share no room with this user and can't see their presence")
    }
    const live = (await ephemeral.presenceOf([userId])).get(userId)
    if (live) {
      return {
        presence: live.presence,
        last_active_ago: Math.max(0, clock.now() - live.last_active_ts),
        currently_active: live.currently_active,
        ...(live.status_msg === undefined ? {} : { status_msg: live.status_msg }),
      }
    }
    const stored = await storedPresence(sql, userId)
    if (!stored) return { presence: 'offline' }
    return {
      presence: 'offline',
      last_active_ago: Math.max(0, clock.now() - stored.last_active_ts),
      ...(stored.status_msg === undefined ? {} : { status_msg: stored.status_msg }),
    }
  },
})
