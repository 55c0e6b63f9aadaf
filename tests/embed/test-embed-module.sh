#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A module built from the installed headers alone is loaded from the module
# directory, checked, served, and read by its values; what it does not declare is
# refused, and so is a file that others could have written.
. "${srcdir:-.}/tests/embed/embed.sh"
requires qemu-io nbdinfo
install_library
build_module quota
build_module quota allowance
BLKTAP_MODULE_DIR=$tmp/modules
export BLKTAP_MODULE_DIR

truncate -s 4M a.raw
cat >q.mason <<END
d :: disk("d") -> q :: quota(limit=64k) -> raw($tmp/a.raw);
END
tap-ctl mason check q.mason
# a directory may hold several
sed 's/quota(/allowance(/' q.mason >two.mason
tap-ctl mason check two.mason
sed 's/limit=64k/limt=64k/' q.mason >bad.mason
exits 1 tap-ctl mason check bad.mason 2>err
contains err "did you mean 'limit'"

# 64 KiB go through, and not a byte more; reads and flushes always
# shellcheck disable=SC2016 # tapdisk's shell expands it
tapdisk --run 'qemu-io -f raw -c "write -P 7 0 64k" -c flush \
	-c "read -P 7 0 64k" -c "write 64k 4k" "$uri"; nbdinfo --can trim "$uri" || echo no trim' \
	"mason:$tmp/q.mason" >out 2>&1 || :
cat out
contains out "wrote 65536/65536"
contains out "read 65536/65536"
contains out "write failed"
contains out "no trim"

# the directory is the only one they come from, and only its owner writes to it
chmod 0777 modules
exits 1 tap-ctl mason check q.mason 2>err
contains err "others could have changed it"
chmod 0755 modules
chmod 0666 modules/quota.so
exits 1 tap-ctl mason check q.mason 2>err
contains err "quota.so: others could have changed it"
chmod 0644 modules/quota.so
echo "no program" >modules/z.so
exits 1 tap-ctl mason check q.mason 2>err
contains err "$tmp/modules/z.so: file too short"
rm modules/z.so
cp modules/quota.so modules/r.so
exits 1 tap-ctl mason check q.mason 2>err
contains err "there is a class 'quota' already"
