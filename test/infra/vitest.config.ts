import { defineConfig } from 'vitest/config'

/** What needs podman: images, compose, manifests. `.ci/run` runs it where podman is on the machine. */
export default defineConfig({
  test: {
    include: ['test/infra/*.containers.ts'],
    root: `${import.meta.dirname}/../..`,
    maxWorkers: 1,
    fileParallelism: false,
    silent: 'passed-only',
    // An image is built in it, from nothing.
    testTimeout: 600_000,
    hookTimeout: 600_000,
  },
})
