# SPDX-License-Identifier: GPL-3.0-or-later
# Hashes and strings in four interpreter threads and the first; a part dropped; then rest.
use strict;
use warnings;
use threads;
$| = 1;
sub work {
	my ($seed) = @_;
	my %kept;
	for my $i (1 .. 20000) {
		$kept{"$seed-$i"} = 'x' x (($i * 7919 * ($seed + 1)) % 700);
	}
	delete $kept{"$seed-$_"} for grep { $_ % 3 } 1 .. 20000;
	return \%kept;
}
my @threads = map { my $n = $_; threads->create(sub { my $k = work($n); sleep; }) } 1 .. 4;
my $mine = work(0);
sleep 1;
print "idle\n";
sleep;
