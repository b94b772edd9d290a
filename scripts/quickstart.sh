#!/usr/bin/env bash
# Runs the quick start: the gateway with a copy of examples/quickstart/kong.yaml, and the echo upstream it proxies to.
# `make run` calls it after building. Ctrl-C ends both. The gateway listens on loopback; with QUICKSTART_ADDRESS=0.0.0.0 other
# machines reach it, too, or those that reach that address: the example's API key is public. The Admin API stays on loopback.
set -euo pipefail

cardinal=${1:-}
if [ ! -x "$cardinal" ]; then
  echo "usage: scripts/quickstart.sh PATH_OF_THE_BINARY (make run builds one)" >&2
  exit 2
fi
cardinal=$(realpath "$cardinal")
cd "$(dirname "$0")/.."

pids=()
# The gateway first: what is under way still needs the backend.
stop() {
  trap - EXIT TERM
  trap '' INT
  for pid in "${pids[1]:-}" "${pids[0]:-}"; do
    [ -n "$pid" ] || continue
    kill -TERM "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
}
trap stop EXIT
# Ctrl-C is how this program is meant to end.
trap 'stop; exit 0' INT TERM

address=${QUICKSTART_ADDRESS:-127.0.0.1}
# Where requests of this machine go.
near=$address
if [ "$near" = 0.0.0.0 ]; then near=127.0.0.1; fi
listens() { (exec 3<>"/dev/tcp/$near/$1" || exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
for port in 8000 8443 8001 8007 9080; do
  if listens "$port"; then
    echo "port $port is taken by another program: end that first (ss -ltnp shows which)" >&2
    exit 1
  fi
done

# The copy can be edited while it is served; git ignores it.
config=quickstart.yaml
cp examples/quickstart/kong.yaml "$config"

# In sessions of their own: Ctrl-C is for this script, which ends both in their order.
setsid "$cardinal" echo --listen 127.0.0.1:9080 &
pids+=($!)
setsid "$cardinal" run --config "$config" --writable --set "proxy_listen=$address:8000, $address:8443 ssl http2" &
pids+=($!)

alive() { kill -0 "${pids[0]}" 2>/dev/null && kill -0 "${pids[1]}" 2>/dev/null; }
ready=
for _ in {1..100}; do
  if ! alive; then break; fi
  if listens 8000; then ready=yes && break; fi
  sleep 0.1
done

if [ -z "$ready" ]; then
  if alive; then echo "nobody answers on port 8000 of $near; the log above may say why" >&2; fi
else cat <<TEXT

  The gateway listens on http://$near:8000 and https://$near:8443; its state is on http://127.0.0.1:8007/status.
  It serves quickstart.yaml, a copy of examples/quickstart/kong.yaml, which the Admin API on http://127.0.0.1:8001 edits. Try, in
  another terminal:

    curl -i http://$near:8000/hello
    curl -i http://$near:8000/private                        401: it wants a key
    curl -i http://$near:8000/private -H 'apikey: tour-key'  200
    curl -ik --http2 https://$near:8443/hello                TLS and HTTP/2

  README.md goes on from here. Ctrl-C stops everything.

TEXT
fi

# If either ends by itself, so does the other.
wait -n "${pids[@]}"
