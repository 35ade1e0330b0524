#!/bin/bash
# Ganglion as a Complement homeserver: client API on 8008, TLS on 8448, everything under /data. One process, or with
# GANGLION_COMPLEMENT_AMONG=handler|role all roles as processes, where each request goes to a random handler of its role, or
# of any role.
set -eu
root=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd)
node=$root/node_modules/.bin/node
made=$root/node_modules/.cache/ganglion-complement
cd /data

# A made database spares each new server two seconds of work.
database=postgres
if [ -n "${GANGLION_COMPLEMENT_AMONG:-}" ]; then
  mkdir -p data
  database=data/postgres
fi
if [ ! -e "$database" ] && [ -e "$made/postgres/cluster/PG_VERSION" ]; then cp -a "$made/postgres" "$database"; fi

openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
  -keyout tls.key -out tls.csr -subj "/CN=$SERVER_NAME" 2>/dev/null
openssl x509 -req -in tls.csr -days 30 -CA /complement/ca/ca.crt -CAkey /complement/ca/ca.key \
  -set_serial "0x$(openssl rand -hex 8)" -extfile <(echo "subjectAltName=DNS:$SERVER_NAME") -out tls.crt 2>/dev/null

if [ -n "${GANGLION_COMPLEMENT_AMONG:-}" ]; then
  exec "$node" "$root/test/complement/roles.ts" --folder /data --dist "$made/dist" --server-name "$SERVER_NAME" \
    --among "$GANGLION_COMPLEMENT_AMONG" --certificate /data/tls.crt --key /data/tls.key
fi

# The tests' own servers are at private addresses.
cat >homeserver.yaml <<YAML
server_name: "$SERVER_NAME"
data_dir: /data
listeners:
  - {port: 8008, bind: 0.0.0.0}
  - {port: 8448, bind: 0.0.0.0, tls_certificate_path: /data/tls.crt, tls_private_key_path: /data/tls.key}
database: {fsync: false}
registration: {enabled: true, guests: true, shared_secret: complement}
password: {bcrypt_rounds: 4, minimum_length: 1}
rooms: {default_version: "11"}
rate_limits: {enabled: false}
federation: {ca_path: /complement/ca/ca.crt}
egress: {allowed_ranges: [0.0.0.0/0, "::/0"]}
media: {freeze_unauthenticated: false}
log: {level: info, format: pretty}
YAML
exec "$node" --max-semi-space-size=8 "$made/dist/monolith.js" --config-path homeserver.yaml
