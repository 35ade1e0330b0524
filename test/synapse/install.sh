#!/bin/bash
# Installs Synapse where the tests look for it, which compare with it or speak to it. Needs python3 with venv.
set -eu
cd "$(dirname "$(readlink -f "$0")")"
target=../../node_modules/.cache/synapse
cmp -s requirements.txt "$target/requirements.txt" && exit 0
rm -rf "$target"
python3 -m venv "$target"
"$target/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt
cp requirements.txt "$target/"
