#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Functions that nothing here may call, work left lying about, and the licence line.
# tests/check-words.sh TOP
set -u
cd "$1" || exit 2
failed=0
sources=$(find src include -name '*.[ch]' -o -name '*.def' | sort)

# found TEXT REGEX FILES: prints hits outside comments and strings
found() {
	text=$1 regex=$2
	shift 2
	hits=$(awk -v regex="$regex" '
	FNR == 1 { comment = 0 }
	{
		line = $0
		gsub(/"([^"\\]|\\.)*"/, "\"\"", line)
		if (comment) {
			if (!sub(/^.*\*\//, "", line))
				next
			comment = 0
		}
		gsub(/\/\*([^*]|\*[^\/])*\*\//, "", line)
		if (sub(/\/\*.*/, "", line))
			comment = 1
		sub(/\/\/.*/, "", line)
		if (line ~ regex)
			printf "%s:%d: %s\n", FILENAME, FNR, $0
	}' "$@") || { echo "awk failed"; failed=1; }
	[ -z "$hits" ] || { echo "$text:"; echo "$hits"; failed=1; }
}

# shellcheck disable=SC2086,SC2046 # the lists of sources are lists
{
	found "banned" '(^|[^A-Za-z0-9_])(strcpy|strcat|strncpy|strncat|sprintf|vsprintf|strtok|atoi|atol|atof|alloca|gets|mktemp|tmpnam)[ \t]*[(]' $sources
	found "numbers are parsed in base/num.c" '(^|[^A-Za-z0-9_])(strtol|strtoul|strtoll|strtoull)[ \t]*[(]' \
		$(printf '%s\n' $sources | grep -v '^src/base/num\.c$')
	found "only the program exits" '(^|[^A-Za-z0-9_])(exit|abort)[ \t]*[(]' \
		$(printf '%s\n' $sources | grep -vE '^src/(cli|commands)/')
	hits=$(grep -nE '\<(TODO|FIXME|XXX|HACK)\>' $sources)
	[ -z "$hits" ] || { echo "left to do:"; echo "$hits"; failed=1; }
	for f in $sources $(find tests scripts bench -name '*.c' -o -name '*.py' -o -name '*.sh' 2>/dev/null); do
		head -n 2 "$f" | grep -q 'SPDX-License-Identifier: GPL-3.0-or-later' || { echo "no SPDX line: $f"; failed=1; }
	done
}
# shellcheck disable=SC2086
set -- $sources
echo "$# sources"
[ $# -gt 20 ] || failed=1
exit $failed
