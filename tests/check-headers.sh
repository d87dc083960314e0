#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Every header compiles alone; the public ones also as plain C11 and as C++.
# tests/check-headers.sh TOP CC CXX
set -u
cd "$1" || exit 2
cc=$2 cxx=$3 failed=0 checked=0
flags=$(pkg-config --cflags libdw libunwind-ptrace json-c smartcols readline)

try() {
	checked=$((checked + 1))
	"$@" || { echo "does not compile alone: $*"; failed=1; }
}

for h in $(find src include -name '*.h' | sort); do
	# shellcheck disable=SC2086 # several flags
	try "$cc" -std=gnu17 -D_GNU_SOURCE -DASC_VERSION='"0"' -Wall -Wextra -Werror -Wno-unused-function \
		-Iinclude -Isrc $flags -fsyntax-only -x c -include "$h" /dev/null
done
for h in include/arenascope/*.h; do
	try "$cc" -std=c11 -pedantic -Wall -Wextra -Werror -Iinclude -fsyntax-only -x c -include "$h" /dev/null
	try "$cxx" -std=c++11 -pedantic -Wall -Wextra -Werror -Iinclude -fsyntax-only -x c++ -include "$h" /dev/null
done
echo "$checked compilations of headers alone"
[ $checked -gt 10 ] || failed=1
exit $failed
