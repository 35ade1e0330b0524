import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['shared/**/*.test.ts', 'functions/**/*.test.ts', 'infra/**/*.test.ts', 'test/**/*.test.ts'],
    // Two cores and a real PostgreSQL beside them: more workers only take turns.
    maxWorkers: 2,
    // Client libraries log much; what a failed test printed is shown.
    silent: 'passed-only',
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
})
