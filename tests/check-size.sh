#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The ten longest functions and files, for the reviewer; far over the measure it fails.
# tests/check-size.sh TOP
set -eu
cd "$1"
sources=$(find src -name '*.c' | sort)
# shellcheck disable=SC2086 # a list
functions=$(awk '
FNR == 1 { start = 0; head = "" }
/^[a-zA-Z_].*\(/ && !/;[ \t]*$/ { head = $0 }
/^\{/ { start = FNR; name = head; sub(/\(.*/, "", name); sub(/.*[ *]/, "", name) }
/^\}/ && start { printf "%d %s:%d %s\n", FNR - start - 1, FILENAME, start, name; start = 0 }' $sources | sort -rn)
echo "The longest functions:"
echo "$functions" | head -n 10
echo "$functions" | awk '{ v[NR] = $1 } END { printf "%d functions, median %d lines, 90 %% at most %d\n", NR, v[int((NR + 1) / 2)], v[int(NR / 10) + 1] }'
echo "The longest files:"
# shellcheck disable=SC2086
wc -l $sources | grep -v ' total$' | sort -rn | head -n 10
failed=0
if [ "$(echo "$functions" | awk 'NR == 1 { print $1 }')" -gt 150 ]; then
	echo "a function over 150 lines"
	failed=1
fi
# shellcheck disable=SC2086
if [ "$(wc -l $sources | grep -v ' total$' | sort -rn | awk 'NR == 1 { print $1 }')" -gt 800 ]; then
	echo "a file over 800 lines"
	failed=1
fi
exit $failed
