#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Every shell script here is clean under shellcheck; Python files compile.
# tests/check-shell.sh TOP
set -eu
cd "$1"
command -v shellcheck >/dev/null || exit 77
files=$(find scripts tests bench .ci completions -type f ! -path '*/__pycache__/*' 2>/dev/null | sort)
shell='' python=''
for f in $files; do
	case $(head -n 1 "$f" | tr -d '\0') in
	'#!/usr/bin/python3'* | '#!/usr/bin/env python3'*) python="$python $f" ;;
	'#!'*sh) shell="$shell $f" ;;
	esac
	case $f in *.py) python="$python $f" ;; esac
done
# shellcheck disable=SC2086 # lists
shellcheck -x scripts/common.sh $shell
# shellcheck disable=SC2086
python3 - $python <<'PY'
import ast, sys
for f in sys.argv[1:]:
    ast.parse(open(f).read(), f)
PY
# shellcheck disable=SC2086
set -- $shell $python
echo "$# scripts"
