#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Install into a folder, then be a stranger there: the program, pkg-config, the CMake package, C11 and C++.
# tests/check-install.sh TOP BUILD CMAKE
set -eu
top=$1 build=$2 cmake=$3
here=$(mktemp -d "${TMPDIR:-/tmp}/arenascope-install.XXXXXX")
trap 'rm -rf "$here"' EXIT

"$cmake" --install "$build" --prefix "$here/usr" >"$here/install.log"
version=$(sed -n 's/^project(arenascope VERSION \([0-9.]*\).*/\1/p' "$top/CMakeLists.txt")
"$here/usr/bin/arenascope" --version | grep -q "$version"

libdir=$(dirname "$(find "$here/usr" -name libarenascope.so)")
export LD_LIBRARY_PATH="$libdir" PKG_CONFIG_PATH="$libdir/pkgconfig"
[ "$(pkg-config --modversion arenascope)" = "$version" ]
# The build's prefix is compiled into the .pc file; an installation into a folder has its own.
flags=$(pkg-config --define-variable=prefix="$here/usr" --cflags --libs arenascope)
# shellcheck disable=SC2086 # several flags
cc -std=c11 -D_POSIX_C_SOURCE=200809L -Wall -Wextra -pedantic -Werror -o "$here/by-pkg-config" \
	"$top/tests/consumer/consumer.c" $flags
"$here/by-pkg-config"

"$cmake" -S "$top/tests/consumer" -B "$here/consumer" -DCMAKE_PREFIX_PATH="$here/usr" >"$here/consumer.log"
"$cmake" --build "$here/consumer" >>"$here/consumer.log" || { cat "$here/consumer.log"; exit 1; }
"$here/consumer/consumer-c"
"$here/consumer/consumer-cxx"

for f in share/man/man1/arenascope.1 share/bash-completion/completions/arenascope \
	share/man/man5/arenascope-json.5 share/man/man7/arenascope-errors.7 \
	share/zsh/vendor-completions/_arenascope share/fish/vendor_completions.d/arenascope.fish \
	share/doc/arenascope; do
	[ -e "$here/usr/$f" ] || { echo "not installed: $f"; exit 1; }
done
for f in "$top"/doc/schema/*.json; do
	cmp "$f" "$here/usr/share/arenascope/schema/$(basename "$f")"
done
