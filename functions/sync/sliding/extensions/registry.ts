/** All extensions, by the names under which clients ask for them. One that is not known is not answered. */
import { allSoon, type Soon, soon } from '../../soon.ts'
import type { ExtensionRequests } from '../request.ts'
import { accountDataExtension } from './account-data.ts'
import { e2eeExtension } from './e2ee.ts'
import type { Extension, ExtensionAnswer, ExtensionContext } from './extension.ts'
import { receiptsExtension } from './receipts.ts'
import { threadSubscriptionsExtension } from './thread-subscriptions.ts'
import { threadsExtension } from './threads.ts'
import { toDeviceExtension } from './to-device.ts'
import { typingExtension } from './typing.ts'

const extensions: { readonly [K in keyof ExtensionRequests]-?: Extension<NonNullable<ExtensionRequests[K]>> } = {
  to_device: toDeviceExtension,
  e2ee: e2eeExtension,
  account_data: accountDataExtension,
  receipts: receiptsExtension,
  typing: typingExtension,
  threads: threadsExtension,
  'io.element.msc4360.threads': threadsExtension,
  'io.element.msc4308.thread_subscriptions': threadSubscriptionsExtension,
}
const names = Object.keys(extensions) as (keyof ExtensionRequests)[]

/** Answers of the extensions that are asked for, each with its name before it. */
export function readExtensions(
  context: ExtensionContext,
  requests: Partial<ExtensionRequests>,
): Soon<readonly ExtensionAnswer[]> {
  const reading: Soon<ExtensionAnswer | undefined>[] = []
  for (const name of names) {
    const config = requests[name]
    if (!config?.enabled) continue
    const extension = extensions[name] as Extension<typeof config>
    reading.push(
      soon(
        extension(context, config),
        (answer) => answer && { ...answer, json: `${JSON.stringify(name)}:${answer.json}` },
      ),
    )
  }
  return soon(allSoon(reading), (answers) => answers.flatMap((answer) => answer ?? []))
}
