# SPDX-License-Identifier: BSD-3-Clause
# A small NBD client for tests, which reads replies of both kinds and dies at what
# the protocol does not allow.
package BtNbd;
use strict;
use warnings;
use IO::Socket::UNIX;
use Time::HiRes qw(sleep time);

our ($READ, $WRITE, $DISC, $FLUSH, $TRIM, $ZEROES) = (0, 1, 2, 3, 4, 6);
$SIG{PIPE} = 'IGNORE';

# dial(PATH): a bare connection; waits for a server that is about to come.
sub dial {
	my ($path, $seconds) = @_;
	my $end = time + ($seconds // 30);
	for (;;) {
		my $s = IO::Socket::UNIX->new(Peer => $path);
		return $s if $s;
		die "$path: $!\n" if time > $end;
		sleep 0.001;
	}
}

# connect(PATH, STRUCTURED): past the handshake.
sub connect {
	my ($class, $path, $structured) = @_;
	my $self = bless { s => dial($path), cookie => 0, wait => {},
		structured => $structured }, $class;
	$self->slurp(18);
	$self->put(pack('N', 3));
	$self->option(8, '') if $structured;
	$self->option(7, pack('N n', 0, 0));
	return $self;
}

sub put {
	my ($self, $bytes) = @_;
	my $at = 0;
	while ($at < length $bytes) {
		my $n = syswrite $self->{s}, $bytes, length($bytes) - $at, $at;
		die "gone: $!\n" unless $n;
		$at += $n;
	}
}

sub slurp {
	my ($self, $n) = @_;
	my $b = '';
	while (length $b < $n) {
		my $r = sysread $self->{s}, $b, $n - length $b, length $b;
		die "gone\n" unless $r;
	}
	return $b;
}

# option(TYPE, DATA): sends it, and waits for its end.
sub option {
	my ($self, $type, $data) = @_;
	$self->put(pack('a8 N N', 'IHAVEOPT', $type, length $data) . $data);
	for (;;) {
		my ($kind, $n) = unpack 'x12 N N', $self->slurp(20);
		$self->slurp($n) if $n;
		die "option $type refused\n" if $kind & 0x80000000;
		last if $kind == 1;
	}
}

# send(TYPE, OFFSET, LENGTH, DATA): returns its cookie.
sub send {
	my ($self, $type, $offset, $length, $data, $flags) = @_;
	my $cookie = ++$self->{cookie};
	$self->{wait}{$cookie} = [ $type, $offset, $length ];
	$self->put(pack('N n n Q> Q> N', 0x25609513, $flags // 0, $type, $cookie,
		$offset, $length) . ($data // ''));
	return $cookie;
}

sub pending { my ($self) = @_; return scalar keys %{$self->{wait}} }

# receive(): (COOKIE, ERROR, DATA) of the next request that is answered whole.
sub receive {
	my ($self) = @_;
	for (;;) {
		my $magic = unpack 'N', $self->slurp(4);
		return $self->simple if $magic == 0x67446698;
		die sprintf("magic %#x\n", $magic) if $magic != 0x668e33ef;
		my ($flags, $kind, $cookie, $n) =
			unpack 'n n Q> N', $self->slurp(16);
		my $want = $self->{wait}{$cookie} or die "cookie $cookie\n";
		my $body = $n ? $self->slurp($n) : '';
		if ($kind & 0x8000) {
			my ($error, $text) = unpack 'N n', $body;
			die "an error chunk without an error\n" unless $error;
			$want->[3] //= $error;
		} elsif ($kind == 1) {
			my $at = unpack('Q>', $body) - $want->[1];
			$want->[4] //= "\0" x $want->[2];
			substr($want->[4], $at, $n - 8) = substr $body, 8;
			$want->[5] += $n - 8;
		} elsif ($kind == 2) {
			my $hole = unpack 'x8 N', $body;
			$want->[4] //= "\0" x $want->[2];
			$want->[5] += $hole;
		} elsif ($kind) {
			die "chunk of kind $kind\n";
		}
		next unless $flags & 1;
		delete $self->{wait}{$cookie};
		die "a read without all of its bytes\n"
			if !$want->[3] && $want->[0] == $READ &&
			$want->[5] != $want->[2];
		return ($cookie, $want->[3] // 0, $want->[4]);
	}
}

sub simple {
	my ($self) = @_;
	my ($error, $cookie) = unpack 'N Q>', $self->slurp(12);
	my $want = delete $self->{wait}{$cookie} or die "cookie $cookie\n";
	my $read = $want->[0] == $READ;
	die "a simple reply to a structured read\n"
		if $read && $self->{structured};
	return ($cookie, $error,
		$read && !$error ? $self->slurp($want->[2]) : undef);
}

# call(...): send and receive, where nothing else is under way.
sub call {
	my $self = shift;
	my $cookie = $self->send(@_);
	my ($got, $error, $data) = $self->receive;
	die "the answer to another request\n" if $got != $cookie;
	return ($error, $data);
}

sub leave {
	my ($self) = @_;
	$self->put(pack('N n n Q> Q> N', 0x25609513, 0, $DISC, 0, 0, 0));
	close $self->{s};
}

1;
