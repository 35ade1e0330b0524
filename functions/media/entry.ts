/** Where the media role's bundle starts. It serves no endpoint of its own: what belongs to it is M_UNRECOGNIZED, what
 *  belongs to others is forwarded. */
import { mount } from '../../shared/http/mount.ts'
import { roleContext } from '../../shared/http/role-context.ts'
import { startHandler } from '../../shared/role/start-handler.ts'

await startHandler({
  role: 'media',
  mount(app, deps) {
    mount(app, [], { ...roleContext(deps), deps })
    return { close() {} }
  },
})
