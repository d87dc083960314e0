#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The shared library exports asc_* and nothing else, and all that the public headers promise.
# tests/check-symbols.sh TOP LIBARENASCOPE.SO
set -eu
exported=$(nm -D --defined-only --format=posix "$2" | cut -d' ' -f1 | sort -u)
foreign=$(printf '%s\n' "$exported" | grep -vE '^asc_' || true)
[ -z "$foreign" ] || { echo "exported, but not asc_*:"; echo "$foreign"; exit 1; }

# Declarations may run over lines; the name is the last word before the first parenthesis.
promised=$(cat "$1"/include/arenascope/*.h | grep -v '^#' | tr '\n' ' ' |
	grep -oE 'ASC_API[^;]*;' | sed -E 's/ASC_MUST//; s/^([^(]*)\(.*/\1/; s/.*[ *]//' | sort -u)
missing=
for name in $promised; do
	printf '%s\n' "$exported" | grep -qx "$name" || missing="$missing $name"
done
[ -z "$missing" ] || { echo "declared ASC_API, but not in the library:$missing"; exit 1; }
extra=
for name in $exported; do
	printf '%s\n' "$promised" | grep -qx "$name" || extra="$extra $name"
done
[ -z "$extra" ] || { echo "exported, but in no public header:$extra"; exit 1; }
echo "$(printf '%s\n' "$exported" | wc -l) symbols exported, as declared"
