/** Where the sync role's bundle starts. */
import { mount } from '../../shared/http/mount.ts'
import { roleContext } from '../../shared/http/role-context.ts'
import { startHandler } from '../../shared/role/start-handler.ts'
import { createSyncRole } from './role.ts'

await startHandler({
  role: 'sync',
  mount(app, deps) {
    const sync = createSyncRole({
      ...deps,
      setPresence: deps.main.setPresence,
      acknowledgeToDevice: deps.main.acknowledgeToDevice,
      shared: { redis: deps.redis, keys: deps.keys },
      onError: (err) => deps.log.error({ err }, 'a part of a sync failed'),
    })
    mount(app, sync.routes, { ...roleContext(deps), deps: sync.deps })
    return sync
  },
})
