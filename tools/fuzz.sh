#!/usr/bin/env bash
# Runs every fuzz target of the tree for FUZZTIME each (3s). What breaks one is written below testdata/fuzz of
# its package: fix it, and commit that file with the fix.
set -euo pipefail
cd "$(dirname "$0")/.."
grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sort | while IFS=: read -r file func; do
  target=${func#func }
  if ! said=$(go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-3s}" "$(dirname "$file")" 2>&1 </dev/null); then
    # Now and then Go's engine takes the end of its own time for a failure. What it finds it writes to a file.
    if grep -q '^ *context deadline exceeded$' <<<"$said" && ! grep -q 'Failing input' <<<"$said"; then
      continue
    fi
    printf '%s: %s\n%s\n' "$(dirname "$file")" "$target" "$said" >&2
    exit 1
  fi
done
