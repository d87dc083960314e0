#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The include rule: a file includes its own directory, lower layers and include/arenascope/ only.
# tests/check-layers.sh TOP
set -eu
cd "$1"
# shellcheck disable=SC2016 # awk's
find src include -name '*.[ch]' -o -name '*.def' -o -name '*.inc' | sort | xargs awk '
BEGIN {
	n = split("base arch target symbols glibc analysis act render commands cli", names, " ")
	for (i = 1; i <= n; i++)
		rank[names[i]] = i
	rank["arch"] = rank["base"]	# the two know nothing of each other, or of anything else
}
{
	line = $0
	if (line !~ /^[ \t]*#[ \t]*include[ \t]*"/)
		next
	files[FILENAME] = 1
	sub(/^[^"]*"/, "", line)
	sub(/".*/, "", line)
	split(FILENAME, path, "/")
	own = path[1] == "include" ? "arenascope" : path[2]
	slash = index(line, "/")
	to = slash ? substr(line, 1, slash - 1) : own
	checked++
	if (to == "arenascope" || to == own)
		next
	if (own == "arenascope")
		why = "a public header includes public headers only"
	else if (!(to in rank))
		why = "not a layer"
	else if (!(own in rank))
		why = "its directory is not a layer"
	else if (rank[to] > rank[own] || (rank[to] == rank[own]))
		why = "a layer not below its own"
	else
		next
	printf "%s:%d: includes \"%s\": %s\n", FILENAME, FNR, line, why
	bad++
}
END {
	printf "%d includes checked, %d wrong\n", checked, bad
	exit bad || checked < 20
}'
