#!/bin/bash
# Installs what the bot of these tests needs, matrix-nio, where the tests look for it. Needs python3 with venv.
set -eu
cd "$(dirname "$(readlink -f "$0")")"
target=../../../node_modules/.cache/nio
cmp -s requirements.txt "$target/requirements.txt" && exit 0
rm -rf "$target"
python3 -m venv "$target"
"$target/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt
cp requirements.txt "$target/"
