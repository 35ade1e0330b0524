#!/bin/bash
# Runs Complement's tests of the client-server API, of federation and of proposals against this checkout, where the runner and its compiled tests
# are there.
#   test/complement/run.sh                     csapi, tests and the packages of proposals, compared with passing.tsv
#   test/complement/run.sh --run TestLogin     further arguments go to the runner
# GANGLION_COMPLEMENT_AMONG=handler runs every role as processes and sends each request to a random handler of its role,
# =role to a random handler of any role.
# Exits with 3 where it can't run here; 2 is a fault of the set-up, 1 a test of passing.tsv that fails.
set -eu
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
runner=${COMPLEMENT_RUNNER:-$here/../../../shared/complement/run}
tests=${COMPLEMENT_TESTS:-${XDG_CACHE_HOME:-$HOME/.cache}/complement-tests}
if [ ! -x "$runner" ]; then
  echo "Complement not run: there is no runner at $runner (COMPLEMENT_RUNNER names another)"
  exit 3
fi
if [ ! -x "$tests/csapi.test" ]; then
  echo "Complement not run: there are no compiled tests in $tests (COMPLEMENT_TESTS names another folder)"
  exit 3
fi
if ! command -v go >/dev/null; then
  # The runner reads the tests' output by go's own tool.
  if [ ! -x /usr/local/go/bin/go ]; then
    echo 'Complement not run: there is no go on the path'
    exit 3
  fi
  export PATH=$PATH:/usr/local/go/bin
fi
packages=csapi,tests,msc3391,msc3757,msc3874,msc3890,msc3930,msc3967,msc4140,msc4155,msc4222,msc4306
among=()
if [ -n "${GANGLION_COMPLEMENT_AMONG:-}" ]; then
  if ! command -v redis-server >/dev/null; then
    echo 'Complement not run with roles: there is no redis-server'
    exit 3
  fi
  among=(--env "GANGLION_COMPLEMENT_AMONG=$GANGLION_COMPLEMENT_AMONG")
fi
# Among all roles it is the forwarding that is tried, which federation adds nothing to; its tests take as long as all others.
if [ "${GANGLION_COMPLEMENT_AMONG:-}" = role ]; then packages=${packages/tests,/}; fi
expected=()
if [ $# -eq 0 ]; then expected=(--expected "$here/passing.tsv" --retry 1); fi
# Servers see none of the machine's /tmp but what is bound.
exec "$runner" --launcher "$here/start.sh" --tests "$tests" --packages "$packages" --bind "$(cd "$here/../.." && pwd)" \
  --results "${COMPLEMENT_RESULTS:-$here/../../node_modules/.cache/complement-results}" "${among[@]}" "${expected[@]}" "$@"
