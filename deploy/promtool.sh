#!/bin/sh
# Prints where promtool is, which checks the alert rules. If the machine has none, and is a Debian or a
# relative of it, the package's copy is unpacked into the user's cache: nothing is installed, no service
# starts, and no root is needed.
#
# Ends with 3 if there is none and this is no such machine, with 1 if it could not be fetched; says why.
set -eu

if command -v promtool; then
	exit
fi
cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/fanfare/promtool
tool=$cache/usr/bin/promtool
if [ ! -x "$tool" ]; then
	if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
		echo "promtool is missing: install Prometheus (macOS: brew install prometheus)" >&2
		exit 3
	fi
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	chmod 755 "$work" # apt-get downloads as a user of its own
	cd "$work"
	if ! apt-get -q download prometheus >log 2>&1; then
		# The lists of packages are missing or old. Only root may renew them.
		{ apt-get -q update && apt-get -q download prometheus; } >>log 2>&1 || {
			cat log >&2
			echo "promtool is missing and could not be fetched: apt-get install --no-install-recommends prometheus" >&2
			exit 1
		}
	fi
	dpkg-deb -x prometheus_*.deb tree
	mkdir -p "$cache/usr/bin"
	# In one step, for whoever does the same at the same time.
	cp tree/usr/bin/promtool "$cache/usr/bin/.promtool.$$"
	mv "$cache/usr/bin/.promtool.$$" "$tool"
fi
echo "$tool"
