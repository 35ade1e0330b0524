/** The process that decodes images, one at a time, for the process that started it. It knows no secret, has no connection,
 *  and is ended at once where an image takes too much time or memory. */
import { writeFileSync } from 'node:fs'
import { constants, setPriority } from 'node:os'
import * as v from 'valibot'
import { ThumbnailJob } from './job.ts'
import { renderThumbnail } from './render.ts'

// Where memory or processors are short, it is this process that has to wait or to go, not the one that answers.
try {
  setPriority(constants.priority.PRIORITY_BELOW_NORMAL)
  writeFileSync('/proc/self/oom_score_adj', '1000')
} catch {
  // Neither is to be had everywhere.
}

const send = (message: object) => process.send?.(message)

process.on('message', (message) => {
  const job = v.parse(ThumbnailJob, message)
  renderThumbnail(job).then(
    (thumbnail) => send({ thumbnail }),
    // What the library says of a broken image is of no use to anybody.
    () => send({}),
  )
})
// The other process is gone. Native code under way would be waited for otherwise.
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'))
