#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Every C file is laid out as clang-format lays it out: that of Debian 12, since releases differ.
# tests/check-format.sh TOP
set -eu
cd "$1"
case $(clang-format --version 2>/dev/null) in
*' version 14.'*) ;;
*) echo 'clang-format 14 is not installed'; exit 77 ;;
esac
files=$(find src include tests bench -name '*.[ch]' | sort)
# shellcheck disable=SC2086 # a list
clang-format --dry-run -Werror $files
# shellcheck disable=SC2086
set -- $files
echo "$# files"
