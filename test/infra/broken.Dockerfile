# A version that migrates and then does not come up.
ARG IMAGE
FROM ${IMAGE}
USER root
RUN for role in sync client federation media main edge; do echo 'setInterval(() => {}, 1000); process.on("SIGTERM", () => process.exit())' > /app/dist/$role.js; done
USER ganglion
