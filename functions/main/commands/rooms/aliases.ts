/** Aliases, and the room directory. https://spec.matrix.org/v1.19/client-server-api/#room-aliases */
import type { MainClient } from '../../../../shared/commands/registry.ts'
import { powerLevelOf, requiredLevel } from '../../../../shared/core/power-levels.ts'
import { serverNameOf, type UserId } from '../../../../shared/matrix/ids.ts'
import type { JsonObject } from '../../../../shared/matrix/json-value.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import { pgText } from '../../../../shared/storage/sql.ts'
import { answered } from '../../command-call.ts'
import { createKeyedQueue } from '../../keyed-queue.ts'
import { isUniqueViolation } from '../../persist/commit-connection.ts'
import { ensureLoaded } from '../../rooms/load-room.ts'
import { authStateOf, membershipOf, type Room, statePdu } from '../../rooms/room.ts'
import { aliasTarget, isAliasTaken } from './alias-reads.ts'
import { aliasInUse, aliasWrite } from './create-room.ts'
import type { RoomCommandDeps } from './room-command-deps.ts'

const canonicalAlias = 'm.room.canonical_alias'

/** Whether the user may change which aliases the room shows: the power that its canonical alias asks for. */
function maySetAliases(room: Room, user: UserId): boolean {
  const state = authStateOf(room)
  const needed = requiredLevel(room.rules, state, canonicalAlias, true)
  return membershipOf(room, user) === 'join' && powerLevelOf(room.rules, state, user) >= needed
}

export function aliasHandlers(
  deps: RoomCommandDeps,
): Pick<MainClient, 'createAlias' | 'deleteAlias' | 'setRoomPublished'> {
  const { sql, engine } = deps
  const making = createKeyedQueue()

  return {
    async createAlias({ alias, room_id, user_id }) {
      if (serverNameOf(alias) !== deps.serverName) {
        throw new MatrixError('M_INVALID_PARAM', 'The alias belongs to another server')
      }
      const taken = () => new MatrixError('M_UNKNOWN', aliasInUse(alias).message, { status: 409 })
      // One at a time: a write that fails holds up all that the room wants written after it.
      await making.run(alias, () =>
        engine
          .run(room_id, 'createAlias', async ({ room, write }) => {
            if (membershipOf(room, user_id) !== 'join') {
              throw new MatrixError('M_FORBIDDEN', 'Only members of a room can give it an alias')
            }
            if (await isAliasTaken(sql, alias)) throw taken()
            write({ ...aliasWrite(alias, room.room_nid, user_id), ...answered({}) })
          })
          .catch((error: unknown) => {
            throw isUniqueViolation(error, 'room_aliases_pkey') ? taken() : error
          }),
      )
      return {}
    },

    async deleteAlias({ alias, user_id, room_id }) {
      const target = await aliasTarget(sql, alias)
      if (target && room_id !== target.room_id) {
        // It moved since it was looked up, perhaps to a room that is written elsewhere.
        throw new MatrixError('M_UNAVAILABLE', `The alias ${alias} is being moved`, { extra: { retry_after_ms: 100 } })
      }
      if (!target) throw new MatrixError('M_NOT_FOUND', `There is no alias ${alias} on this server`)
      const isAdmin = await isServerAdmin(user_id)
      await engine.run(target.room_id, 'deleteAlias', async ({ room, append, write }) => {
        await ensureLoaded(sql, room, [[canonicalAlias, '']])
        const powerful = maySetAliases(room, user_id)
        if (target.creator !== user_id && !powerful && !isAdmin) {
          throw new MatrixError('M_FORBIDDEN', 'The alias was made by somebody else')
        }
        write({
          also: (tx) => [tx`delete from room_aliases where alias = ${pgText(alias)} and room_nid = ${room.room_nid}`],
          ...answered({}),
        })
        const before = statePdu(room, canonicalAlias, '')?.content
        const content = before && withoutAlias(before, alias)
        if (content && powerful) await append({ type: canonicalAlias, state_key: '', sender: user_id, content })
      })
      return {}
    },

    async setRoomPublished({ room_id, user_id, published }) {
      if (published && !deps.config.rooms.publish_public) {
        throw new MatrixError('M_FORBIDDEN', 'Rooms cannot be published on this server')
      }
      const isAdmin = await isServerAdmin(user_id)
      await engine.run(room_id, 'setRoomPublished', async ({ room, write }) => {
        await ensureLoaded(sql, room, [['m.room.power_levels', '']])
        if (!isAdmin && !maySetAliases(room, user_id)) {
          throw new MatrixError('M_FORBIDDEN', 'You do not have the power to list this room')
        }
        write({
          also: (tx) => [tx`update rooms set published = ${published} where room_nid = ${room.room_nid}`],
          ...answered({}),
        })
      })
      return {}
    },
  }

  async function isServerAdmin(user_id: UserId): Promise<boolean> {
    const [row] = await sql<{ admin: boolean }[]>`select admin from users where user_id = ${user_id}`
    return row?.admin === true
  }
}

/** undefined: the alias is not in it. */
function withoutAlias(content: JsonObject, alias: string): JsonObject | undefined {
  const { alias: main, alt_aliases: alternatives, ...rest } = content
  const kept = Array.isArray(alternatives) ? alternatives.filter((other) => other !== alias) : []
  const isListed = Array.isArray(alternatives) && kept.length < alternatives.length
  if (main !== alias && !isListed) return undefined
  return {
    ...rest,
    ...(main === undefined || main === alias ? undefined : { alias: main }),
    ...(kept.length > 0 ? { alt_aliases: kept } : undefined),
  }
}
