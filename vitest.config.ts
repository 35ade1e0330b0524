import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['shared/**/*.test.ts', 'functions/**/*.test.ts', 'infra/**/*.test.ts', 'test/**/*.test.ts'],
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
