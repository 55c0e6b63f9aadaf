#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# `tap-ctl mason` checks, prints and draws files, without a tapdisk, for the
# classes that the library has.
. "${srcdir:-.}/tests/shell/functions.sh"

cat >good.mason <<'END'
let $size = 1M;
include "sub/lib.mason";
d::disk( "x" )->null($size); # nothing
e :: export("y") -> raw($where);
END
mkdir sub
echo 'let $where = "/a";' >sub/lib.mason

exits 0 tap-ctl mason check good.mason >out 2>err
equal "$(sed 's/, [0-9]* bytes/, N bytes/' out)" \
	"good.mason: 4 nodes, N bytes of memory"
[ ! -s err ] || fail "$(cat err)"
equal "$(tap-ctl mason check --json good.mason)" '[]'
exits 0 tap-ctl mason check - <good.mason >out
contains out "-: 4 nodes"
exits 0 tap-ctl mason check -D size=2M --define=where=/b good.mason >out
exits 1 tap-ctl mason check -Dsize=2X good.mason 2>err
contains err "good.mason:3:22: error: null: size=2X is not a valid value"
echo 'disk("m") -> ram(1M); disk("n") -> ram("1X");' >ram.mason
exits 1 tap-ctl mason check ram.mason 2>err
contains err "ram.mason:1:36: error: ram: size '1X' is not a size"
echo 'disk("m") -> retry(for=10us) -> ram(1M);' >retry.mason
exits 1 tap-ctl mason check retry.mason 2>err
contains err "retry: for=10us is less than 1ms"
# exports of one name on two servers, two of one server, and one key for both
cat >far.mason <<'END'
d :: disk("x") -> crypt(key="secret:a") -> nbd("nbd://a:1", export="x");
e :: disk("y") -> crypt(key="secret:a") -> nbd("nbd://b:1", export="x");
f :: disk("z") -> nbd("nbd://a:1", export="z");
END
exits 0 tap-ctl mason check far.mason >out
echo 'g :: disk("w") -> nbd("nbd://a:1", export="z");' >>far.mason
exits 1 tap-ctl mason check far.mason 2>err
contains err "4:19: error: nbd://a:1 z has two writers"
echo 'disk("m") -> ram(1M);' >ram.mason
exits 1 tap-ctl mason check --memory 1000k ram.mason 2>err
contains err "the graph takes 1.1M of memory, the budget is 1000k"
exits 2 tap-ctl mason check --memory 1x good.mason 2>err
contains err "--memory '1x' is not a size"

echo 'd :: dsik("x");' >bad.mason
exits 1 tap-ctl mason check bad.mason >out 2>err
[ ! -s out ] || fail "$(cat out)"
cat >want <<'END'
bad.mason:1:6: error: there is no class 'dsik'
 d :: dsik("x");
      ^
  hint: did you mean 'disk'?
END
diff -u want err
exits 1 tap-ctl mason dot bad.mason >out 2>err
diff -u want err
exits 1 tap-ctl mason check --json bad.mason >out
contains out '"line":1,"column":6,"text":"there is no class '

# What does not fit on a line of its own is left alone by fmt; the rest is not.
cat >want <<'END'
let $size = 1M;
include "sub/lib.mason";
d :: disk("x") -> null($size); # nothing
e :: export("y") -> raw($where);
END
tap-ctl mason fmt good.mason | diff -u want -
chmod 640 good.mason
tap-ctl mason fmt -i good.mason
diff -u want good.mason
equal "$(stat -c %a good.mason)" 640
equal "$(find . -name 'good.mason?*')" ""
echo 'a -> ;' >bad.mason
exits 1 tap-ctl mason fmt -i bad.mason 2>err
contains err "bad.mason:1:6: error: expected a node, found ';'"
equal "$(cat bad.mason)" 'a -> ;'

tap-ctl mason dot good.mason >out
contains out '"d" -> "null#1"'
contains out 'digraph mason {'

exits 4 tap-ctl mason check none.mason 2>err
contains err "cannot check none.mason: No such file or directory (ENOENT)"
exits 1 tap-ctl mason check . 2>err
contains err "(EISDIR)"
exits 2 tap-ctl mason chekc good.mason 2>err
contains err "hint: did you mean 'check'?"
exits 2 tap-ctl mason 2>err
contains err "usage: tap-ctl mason"
exits 2 tap-ctl mason check 2>err
exits 0 tap-ctl mason fmt --help >out
contains out "usage: tap-ctl mason fmt"
