/** Bounds on events and JSON. https://spec.matrix.org/v1.19/client-server-api/#size-limits */
export const limits = {
  /** The whole event in the federation format, signatures included, as canonical JSON. */
  eventBytes: 65_536,
  /** `sender`, `room_id`, `state_key`, `type`, `event_id`, each. */
  fieldBytes: 255,
  prevEvents: 20,
  authEvents: 10,
  /** Objects and arrays inside one another, in any JSON we accept; keeps recursion off the stack's end. */
  jsonDepth: 1000,
  /** The largest `depth`: a room that reached it stays there. */
  eventDepth: Number.MAX_SAFE_INTEGER,
} as const

/** Whether `text` is at most `bytes` long in UTF-8; counts only when the number of code units does not decide it. */
export function fitsBytes(text: string, bytes: number): boolean {
  if (text.length * 3 <= bytes) return true
  if (text.length > bytes) return false
  return Buffer.byteLength(text) <= bytes
}
