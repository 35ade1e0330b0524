import * as v from 'valibot'
import { Content } from '../../../shared/commands/rooms.ts'
import { Filter } from '../../../shared/core/filter.ts'
import { RawJson } from '../../../shared/http/route.ts'
import { UserId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { storedFilter } from '../../../shared/storage/filters.ts'
import { route } from '../deps.ts'

export const postFilter = route({
  method: 'POST',
  path: '/_matrix/client/v3/user/:userId/filter',
  spec: 'client-server-api/#post_matrixclientv3useruseridfilter',
  auth: 'user',
  limit: 'account',
  params: v.object({ userId: UserId }),
  body: Content,
  bodyBytesMax: 65_536,
  async handle({ params: { userId }, body, user }, { main }) {
    if (userId !== user.user_id) throw new MatrixError('M_FORBIDDEN', "You can't make filters for other users")
    // Checked as a filter, kept as the client sent it: it may hold keys that a later version knows.
    const checked = v.safeParse(Filter, body)
    if (!checked.success) throw new MatrixError('M_BAD_JSON', `This is no filter: ${v.summarize(checked.issues)}`)
    return main.createFilter({ user_id: userId, filter: JSON.stringify(body) })
  },
})

export const getFilter = route({
  method: 'GET',
  path: '/_matrix/client/v3/user/:userId/filter/:filterId',
  spec: 'client-server-api/#get_matrixclientv3useruseridfilterfilterid',
  auth: 'user',
  params: v.object({ userId: UserId, filterId: v.string() }),
  async handle({ params: { userId, filterId }, user }, { sql }) {
    if (userId !== user.user_id) throw new MatrixError('M_FORBIDDEN', "You can't read other users' filters")
    const filter = await storedFilter(sql, userId, filterId)
    if (filter === undefined) throw new MatrixError('M_NOT_FOUND', 'There is no such filter')
    return new RawJson(filter)
  },
})
