# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash
# Shared by the scripts here: sourced, after `set -eu`.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
jobs=$(nproc)

say() { printf '%s\n' "$*" >&2; }
die() { say "$(basename "$0"): $*"; exit 1; }

# as_root COMMAND...: by sudo if that is needed.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "needs root or sudo for: $*"
	fi
}

packages_of() { # SECTION
	awk -v want="[$1]" '/^\[/ { on = $0 == want; next } on && NF && !/^#/ { print $1 }' "$top/scripts/packages"
}

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# need SECTION...: install what is missing, and only then touch apt.
need() {
	local section name missing=()
	command -v dpkg-query >/dev/null || die "this script knows Debian only; scripts/packages lists what to install"
	for section in "$@"; do
		while read -r name; do
			installed "$name" || missing+=("$name")
		done < <(packages_of "$section")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	say "Installing Debian packages: ${missing[*]}"
	as_root apt-get -qq update
	DEBIAN_FRONTEND=noninteractive as_root apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends \
		"${missing[@]}" >/dev/null
}

# build DIR [CMAKE OPTION...]: configure once, build, quiet unless it fails.
build() {
	local dir=$1 log
	shift
	mkdir -p "$dir"
	log=$dir/build.log
	if ! { cmake -S "$top" -B "$dir" -G Ninja "$@" && cmake --build "$dir" -j "$jobs"; } >"$log" 2>&1; then
		tail -n 60 "$log" >&2
		die "the build in $dir failed; all of it: $log"
	fi
}

# May this user attach to a process that is not its child?
may_attach() {
	[ "$(id -u)" = 0 ] && return 0
	[ "$(cat /proc/sys/kernel/yama/ptrace_scope 2>/dev/null || echo 0)" = 0 ]
}
