/** Connections that could not be made or were lost, and a server that starts or stops (SQLSTATE classes 08 and 57P). */
const away =
  /^(?:CONNECTION_|CONNECT_TIMEOUT$|E(?:CONN[A-Z]+|PIPE|TIMEDOUT|HOSTUNREACH|NETUNREACH|NOTFOUND|AI_AGAIN)$|57P|08)/

/** Whether a query failed because the database can't be reached: nothing is wrong with the request. */
export function isDatabaseAway(error: unknown): boolean {
  if (!(error instanceof Error) || !('code' in error)) return false
  // A server that has stopped takes its Unix socket with it.
  return away.test(String(error.code)) || (error.code === 'ENOENT' && 'syscall' in error && error.syscall === 'connect')
}
