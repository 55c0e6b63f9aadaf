#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A room includes, and links to, rooms of lower rank only, as lib/libblktap/
# LAYERS has it; programs include public headers only; every room has a rank, and
# ARCHITECTURE.md names it.
. "${srcdir:-.}/tests/lint/lint.sh"
layers=$srcdir/lib/libblktap/LAYERS

sources_like 'lib/*.[ch]' >files
perl - "$layers" "$srcdir" files >bad <<'END'
use strict;
my ($layers, $srcdir, $list) = @ARGV;
my (%rank, %deny, %only);
open my $l, '<', $layers or die "$layers: $!";
while (<$l>) {
	next if /^#|^\s*$/;
	my ($first, $second, @rest) = split;
	if ($first eq 'deny') { $deny{$second} = \@rest }
	elsif ($first eq 'only') { $only{$second} = $rest[0] }
	else { $second =~ s,^\.\./,,; $rank{$second} = $first }
}
s,^\.\./,, for my @rooms = keys %deny;
$deny{$_ =~ s,^\.\./,,r} = $deny{$_} for keys %deny;
open my $fh, '<', $list or die;
while (my $file = <$fh>) {
	chomp $file;
	my $public = $file =~ m,^lib/libblktap/include/,;
	my ($room) = $file =~ m,^lib/libblktap/(.+)/,;
	($room) = $file =~ m,^lib/([^/]+)/, unless $room;
	if (!$public && !defined $rank{$room}) {
		print "$file: the room $room has no rank in LAYERS\n";
		next;
	}
	open my $f, '<', "$srcdir/$file" or die "$file: $!";
	while (<$f>) {
		next unless /^\s*#\s*include\s*([<"])([^>"]+)/;
		my ($kind, $name) = ($1, $2);
		my $say = sub { print "$file:$.: $name: @_\n" };
		if ($public) {
			$say->("a public header includes only <...>")
				if $kind eq '"';
			next;
		}
		for my $glob (@{$deny{$room} || []}) {
			my $re = quotemeta $glob;
			$re =~ s/\\\*/.*/g;
			$say->("not in $room") if $name =~ /^$re$/;
		}
		for my $key (keys %only) {
			next unless $name =~ /\Q$key\E$/;
			$say->("for $only{$key} alone")
				unless $file =~ /\Q$only{$key}\E\.[ch]$/;
		}
		next if $kind eq '<' or exists $only{$name};
		my ($to) = $name =~ m,^(.+)/,;
		if (!defined $to) {
			$say->("write it with its room");
		} elsif (!defined $rank{$to}) {
			next if $name =~ m,uapi/blktap\.h$,;
			$say->("no such room");
		} elsif ($to ne $room && $rank{$to} >= $rank{$room}) {
			$say->("$room (rank $rank{$room}) must not know " .
				"$to (rank $rank{$to})");
		}
	}
}
END
verdict bad

# The programs and the embedding examples are users like any other.
sources_like 'daemons/*.[ch]' 'tests/embed/*.[ch]' >files
while read -r f; do
	sed -n 's/^[ 	]*#[ 	]*include[ 	]*"\([^"]*\)".*/\1/p' \
		"$srcdir/$f" | while read -r h; do
		[ -e "$srcdir/${f%/*}/$h" ] && [ "$h" = "${h##*/}" ] ||
			echo "$f: $h is not public"
	done
done <files >bad
verdict bad

# The rooms on the level of objects: a declaration written by hand would pass
# above.
if [ -z "${SAN_CFLAGS:-}" ] && command -v nm >/dev/null; then
	lib_objects | while read -r o; do
		nm -g "$o" | sed "s|^|${o#"$builddir/lib/"} |"
	done >names
	perl - "$layers" names >bad <<'END'
use strict;
my (%rank, %home, @uses);
open my $l, '<', $ARGV[0] or die;
while (<$l>) {
	next unless /^(\d+)\s+(\S+)/;
	my ($n, $room) = ($1, $2);
	$room =~ s,^\.\./,,;
	$rank{$room} = $n;
}
open my $f, '<', $ARGV[1] or die;
while (<$f>) {
	my ($o, $type, $name) = /^(\S+) .*\b([A-Za-z]) (\S+)$/ or next;
	my ($room) = $o =~ m,^(?:libblktap/)?(.+?)/\.libs/,;
	if ($type eq 'U') { push @uses, [$o, $room, $name] }
	else { $home{$name} = $room }
}
for (@uses) {
	my ($o, $room, $name) = @$_;
	my $to = $home{$name} // next;
	next if $to eq $room or $rank{$to} < $rank{$room};
	print "$o: uses $name of $to (rank $rank{$to})\n";
}
END
	verdict bad
fi

# ARCHITECTURE.md is the map a reader starts from.
doc=$srcdir/ARCHITECTURE.md
[ -e "$doc" ] || skip "no ARCHITECTURE.md yet"
for d in "$srcdir"/lib/libblktap/*/ "$srcdir"/lib/libblktap/driver/*/ \
	"$srcdir"/lib/*/; do
	d=${d#"$srcdir/"}
	name=$(basename "$d")
	case $name in
	libblktap) continue ;;
	include) continue ;;
	esac
	grep -qE "(^|[^a-z])$name/|/$name\b" "$doc" || echo "ARCHITECTURE.md does not name $d"
done >bad
verdict bad
