#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A chain may be as deep as there are descriptors, and may stand in a file.
. "${srcdir:-.}/tests/shell/functions.sh"
requires qemu-img nbdcopy

# chain FILE DEPTH: copies of one child, one over the other, on base.raw.
chain()
{
	n=0
	while [ $n -lt "$2" ]; do
		n=$((n + 1))
		cp child.qcow2 "c$n"
		echo "qcow2:c$n"
	done >"$1"
	echo "raw:base.raw" >>"$1"
}

make_image base.raw 1M
qemu-img create -q -f qcow2 -o cluster_size=512 -F raw -b base.raw \
	child.qcow2 1M

# Memory that is set aside and never used is filled where this is set: 12 GB here,
# and 0.2 GB without.
MALLOC_PERTURB_=0
export MALLOC_PERTURB_

# 1100 images deep; what the bottom has comes up, what is written stays on top
chain deep 1100
before=$(sha256sum <base.raw)
tapdisk --run 'nbdcopy "$uri" out.raw' -R "x-chain:$tmp/deep"
cmp base.raw out.raw
head -c 65536 /dev/urandom >new
truncate -s 1M new
# shellcheck disable=SC2016 # the inner shell's
tapdisk --run 'nbdcopy new "$uri" && nbdcopy "$uri" out.raw' \
	"x-chain:$tmp/deep"
cmp new out.raw
equal "$(sha256sum <base.raw)" "$before"
cmp child.qcow2 c2
fails cmp -s child.qcow2 c1

# 100 deep against 1 deep: printed, for whoever changes the walk
chain flat 1
chain hundred 100
for f in flat hundred; do
	t=$(date +%s%N)
	# shellcheck disable=SC2016
	tapdisk --run 'for i in 1 2 3 4 5; do nbdcopy "$uri" null:; done' -R \
		"x-chain:$tmp/$f"
	echo "$f: $((($(date +%s%N) - t) / 1000000)) ms for 5 MiB, open included"
done

# blanks, comments, read-only, a path from elsewhere
mkdir d
mv child.qcow2 d/
printf '# a chain\n\n \tqcow2:d/child.qcow2 \t ro \r\n  raw:%s\n' \
	"$tmp/base.raw" >listed
tapdisk --run 'nbdinfo --is readonly "$uri"' "x-chain:$tmp/listed"
(cd d && tapdisk --run 'nbdcopy "$uri" ../out.raw' x-chain:../listed)
cmp base.raw out.raw

# through tap-ctl, which knows where it was called
tap-ctl create -a x-chain:listed >/dev/null
pid=$(tap-ctl list | sed -n 's/^pid=\([0-9]*\) .*/\1/p')
cleanup_fn stop_tapdisk "$pid" 0
equal "$(tap-ctl list)" "pid=$pid minor=0 state=0 args=x-chain:$tmp/listed"
tap-ctl destroy -p "$pid" -m 0

# what is wrong is named with its line
refused()
{
	printf "$1" >bad
	fails tapdisk --run true "x-chain:$tmp/bad" 2>err
	contains err "$2"
}
refused '' 'names no image'
refused 'raw:base.raw\nraw:base.raw\n' 'bad: line 2: the image above it'
refused 'qcow2:d/child.qcow2\nbase.raw\n' 'line 2: is not type:path'
refused 'qcow2:d/child.qcow2\nraw:missing\n' 'line 2'
refused 'x-chain:listed\n' 'line 1: chains do not hold chains'
refused 'qcow2:d/child.qcow2\nqcow3:base.raw\n' "there is no type 'qcow3'"
fails tapdisk --run true x-chain:missing 2>err
contains err 'missing: No such file'
