import { defineConfig } from 'vitest/config'

/** Looks at what all others have seen. */
const afterAllTests = 'test/specification/answers.test.ts'

export default defineConfig({
  test: {
    globalSetup: ['test/support/end-of-run.ts'],
    setupFiles: ['test/specification/observe.ts'],
    projects: [
      {
        extends: true,
        test: {
          name: 'tests',
          include: ['shared/**/*.test.ts', 'functions/**/*.test.ts', 'infra/**/*.test.ts', 'test/**/*.test.ts'],
          exclude: [afterAllTests],
        },
      },
      { extends: true, test: { name: 'afterwards', include: [afterAllTests], sequence: { groupOrder: 1 } } },
    ],
    // Two cores and a real PostgreSQL beside them: more workers only take turns.
    maxWorkers: 2,
    // Client libraries log much; what a failed test printed is shown.
    silent: 'passed-only',
    // Many tests start a dozen processes: what a busy machine starved once is tried again, and shown as such.
    retry: process.env.CI === undefined ? 0 : 1,
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
})
