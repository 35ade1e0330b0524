/** Work on many media, some at a time. */
import { type MediaName, mediaNamesMax } from '../../../shared/commands/media.ts'
import type { UserId } from '../../../shared/matrix/ids.ts'
import type { MediaDeps } from '../deps.ts'

/** One request works on so many at most: where there are more, it is to be sent again. */
const portionsMax = 20

/** Calls `work` with the names that `next` gives after the last one, until there are none. */
export async function inPortions(
  next: (after: string, limit: number) => Promise<readonly MediaName[]>,
  work: (media: MediaName[]) => Promise<unknown>,
): Promise<MediaName[]> {
  const done: MediaName[] = []
  let after = ''
  for (let portion = 0; portion < portionsMax; portion++) {
    const media = [...(await next(after, mediaNamesMax))]
    const last = media.at(-1)
    if (!last) return done
    await work(media)
    done.push(...media)
    after = last.media_id
  }
  return done
}

export async function deleteInPortions(
  next: (after: string, limit: number) => Promise<readonly MediaName[]>,
  deleted_by: UserId,
  { main }: Pick<MediaDeps, 'main'>,
): Promise<{ deleted_media: string[]; total: number }> {
  const gone = await inPortions(next, (media) => main.deleteMedia({ media, deleted_by }))
  return { deleted_media: gone.map((medium) => medium.media_id), total: gone.length }
}
