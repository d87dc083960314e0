# SPDX-License-Identifier: GPL-3.0-or-later
# 8 threads that parse JSON, keep a part of it, and end; then the collector runs.
require "json"

kept = (0...8).map { |t|
  Thread.new do
    parsed = (0...4000).map { |i| JSON.parse(JSON.generate("k#{i}" => "x" * (i % 900), "l" => [i] * (i % 50))) }
    parsed.each_with_index.select { |_, i| i % 5 == t % 5 }
  end
}.map(&:value)
GC.start
$stdout.puts "idle"
$stdout.flush
sleep
kept.clear
