/** Operations of the client-server API that Ganglion doesn't serve yet, by their operationIds. The list only shrinks:
 *  served.test.ts fails where it names one that is served. */
export const later: Readonly<Record<string, readonly string[]>> = {
  'application services': ['pingAppservice', 'updateAppserviceRoomDirectoryVisibility'],
  'single sign-on and OAuth': ['redirectToSSO', 'redirectToIdP', 'getAuthMetadata'],
  'policy servers': ['getWellknownPolicy'],
}

/** Operations that are served, whose good answers need something of the list above. answers.test.ts fails where it names one
 *  that has been answered well. */
export const answeredLater: readonly string[] = [
  // Without bridges no protocol is known, and nobody behind one.
  'getProtocolMetadata',
  'queryLocationByProtocol',
  'queryUserByProtocol',
  'queryLocationByAlias',
  'queryUserByID',
]
