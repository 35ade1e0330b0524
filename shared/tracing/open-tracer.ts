/** The tracer of a process, where `tracing.otlp_url` names a collector; nothing of it is loaded where it does not. */
import type { Clock } from '../clock.ts'
import type { Config } from '../config/schema.ts'
import type { Logger } from '../logging.ts'
import type { Tracer } from './tracer.ts'

export async function openTracer(options: {
  readonly config: Config
  readonly role: string
  /** This process among others of its role. */
  readonly instance: string
  readonly clock: Clock
  readonly log: Pick<Logger, 'warn'>
}): Promise<Tracer | undefined> {
  const { otlp_url: url, sample_ratio: sampleRatio } = options.config.tracing
  if (url === undefined) return undefined
  const [{ createOtlpExporter }, { createTracer }] = await Promise.all([
    import('./otlp-exporter.ts'),
    import('./recording-tracer.ts'),
  ])
  const { role, instance, clock, log, config } = options
  const exporter = createOtlpExporter({ url, role, instance, serverName: config.server_name, clock, log })
  return createTracer({ exporter, sampleRatio })
}
