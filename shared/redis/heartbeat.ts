/** A message that says nothing: whoever subscribes over REST learns from it that its stream lives. All others pass over it. */
export const heartbeat = '~beat'

export function isHeartbeat(text: string): boolean {
  return text === heartbeat
}
