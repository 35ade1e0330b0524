/** Previews of URLs. https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediapreview_url */
import type { Clock } from '../../../shared/clock.ts'
import type { MainClient } from '../../../shared/commands/registry.ts'
import type { Config } from '../../../shared/config/schema.ts'
import type { Egress } from '../../../shared/egress/egress.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import type { ReadSql } from '../../../shared/storage/sql.ts'
import { deniedUrls, urlCharactersMax } from './denied-urls.ts'
import type { Preview } from './preview.ts'
import { createPreviewCache } from './preview-cache.ts'
import { webUrl } from './preview-data.ts'
import type { PreviewMaker, PreviewMakerDeps } from './preview-maker.ts'

export interface Previews {
  /** `language`: the user's own Accept-Language. Throws MatrixError. */
  of(url: string, language: string | undefined): Promise<Preview>
}

/** Longer ones are nobody's who reads. */
const languageCharactersMax = 200

export function createPreviews(deps: {
  readonly config: Config['url_previews']
  readonly sql: ReadSql
  readonly main: Pick<MainClient, 'claimUrlPreview' | 'storeUrlPreview'>
  readonly clock: Clock
  readonly egress: Egress
  readonly storeImage: PreviewMakerDeps['storeImage']
  readonly onError: PreviewMakerDeps['onError']
}): Previews {
  const { config, sql, main, clock } = deps
  let opened: Promise<{ denied(url: URL): boolean; maker: PreviewMaker }> | undefined
  /** Loaded at the first preview. Where the rules make no sense there is none, ever. */
  const open = () => {
    opened ??= Promise.all([deniedUrls(config.denied_urls), import('./preview-maker.ts')]).then(
      ([denied, { createPreviewMaker }]) => ({ denied, maker: createPreviewMaker({ ...deps, denied }) }),
    )
    return opened
  }
  // The operator hears of it at the start.
  if (config.enabled && config.denied_urls.length > 0) open().catch(deps.onError)
  const cache = createPreviewCache({
    sql,
    main,
    clock,
    lifetimeMs: config.cache_lifetime,
    timeoutMs: config.timeout,
  })

  return {
    async of(text, given) {
      if (!config.enabled) throw new MatrixError('M_UNRECOGNIZED', 'This server makes no previews of URLs')
      const url = text.length > urlCharactersMax ? undefined : webUrl(text)
      if (!url) throw new MatrixError('M_INVALID_PARAM', 'url must be a URL of http or https')
      const { denied, maker } = await open()
      if (denied(url)) throw new MatrixError('M_FORBIDDEN', 'This server makes no previews of this URL')
      const language =
        config.forward_language && given !== undefined && isLanguage(given) ? given : config.accept_language
      return cache.get(url, language, () => maker.make(url, language))
    },
  }
}

/** A header as browsers send it: it goes on to strangers, and names an entry of the cache. */
function isLanguage(header: string): boolean {
  return header.length <= languageCharactersMax && /^[a-zA-Z0-9*,;=. -]+$/.test(header)
}
