/** Operations of the client-server API that Ganglion doesn't serve yet, by their operationIds. The list only shrinks:
 *  served.test.ts fails where it names one that is served. */
export const later: Readonly<Record<string, readonly string[]>> = {
  'email addresses and phone numbers': [
    'getAccount3PIDs',
    'post3PIDs',
    'add3PID',
    'bind3PID',
    'delete3pidFromAccount',
    'unbind3pidFromAccount',
    'requestTokenTo3PIDEmail',
    'requestTokenTo3PIDMSISDN',
    'requestTokenToResetPasswordEmail',
    'requestTokenToResetPasswordMSISDN',
    'requestTokenToRegisterEmail',
    'requestTokenToRegisterMSISDN',
  ],
  'application services': ['pingAppservice', 'updateAppserviceRoomDirectoryVisibility'],
  media: [
    'getContentAuthed',
    'getContentOverrideNameAuthed',
    'getContentThumbnailAuthed',
    'getUrlPreviewAuthed',
    'getConfigAuthed',
    'uploadContent',
    'uploadContentToMXC',
    'createContent',
    'getContent',
    'getContentOverrideName',
    'getContentThumbnail',
    'getUrlPreview',
    'getConfig',
  ],
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
