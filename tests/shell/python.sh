#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The Python binding has the layouts of the headers, and does what its text
# says: requests, errors with hints, pause, snapshots, NBD, no use after close.
. "${srcdir:-.}/tests/shell/functions.sh"
requires python3

[ -z "${SAN_CFLAGS:-}" ] && ! grep -q '^SAN_CFLAGS = .' "$builddir/Makefile" ||
	skip "python3 cannot load a library with a sanitizer built in"
[ "${BLKTAP_VALGRIND:-}" != 1 ] || skip "it would be python that is looked at"
BLKTAP_LIBRARY=$builddir/.libs/libblktap.so.0
[ -e "$BLKTAP_LIBRARY" ] || skip "no shared library was built"
PYTHONPATH=$srcdir/bindings/python
PYTHONDONTWRITEBYTECODE=1
export BLKTAP_LIBRARY PYTHONPATH PYTHONDONTWRITEBYTECODE
python3 -c 'import ctypes, sys; sys.exit(sys.version_info < (3, 9))' ||
	skip "needs python 3.9 with ctypes"

# the example on top of the module
python3 -m doctest "$srcdir/bindings/python/blktap.py"
rm disk.qcow2

# every structure and constant is that of the headers
python3 - >layout.c <<'END'
import ctypes
import re
import blktap

print("#include <blktap/blktap.h>")


def same(c, python):
    print('_Static_assert((%s) == %d, "%s");' % (c, python, c))


def structure(cls, name):
    same("sizeof(%s)" % name, ctypes.sizeof(cls))
    for field, *_ in cls._fields_:
        member = field
        if field == "size" and cls is blktap._ImageOptions:
            member = "struct_size"
        same("offsetof(%s, %s)" % (name, member), getattr(cls, field).offset)
        same("sizeof(((%s *)0)->%s)" % (name, member),
             getattr(cls, field).size)


for cls in blktap._Sized.__subclasses__() + [blktap._Extent, blktap._IoResult]:
    words = re.findall("[A-Z][a-z]+", cls.__name__)
    structure(cls, "struct blktap_" + "_".join(words).lower())
structure(blktap._Iovec, "struct iovec")
for number, name in enumerate(blktap._ENGINES):
    same("BLKTAP_ENGINE_" + name.upper(), number)
for number, name in enumerate(blktap._LEVELS):
    same("BLKTAP_LOG_" + name.upper(), number)
for number, name in enumerate(blktap._POLICIES):
    same("BLKTAP_POLICY_" + name.upper(), number)
for number, name in enumerate(blktap._OPS):
    same("BLKTAP_OP_" + name.upper(), number)
    same("BLKTAP_OP_" + name.upper(), getattr(blktap, "_" + name.upper()))
for name in ("FUA MAY_UNMAP EXTENT_HOLE EXTENT_ZERO OPEN_READ_ONLY OPEN_FORCE "
             "OPEN_BUFFERED CREATE_OVERWRITE CREATE_RESERVE").split():
    same("BLKTAP_" + name, getattr(blktap, "_" + name.replace("EXTENT_", "")))
END
# shellcheck disable=SC2086 # CC may have words
${CC:-cc} -std=gnu11 -fsyntax-only \
	-I"$srcdir/lib/libblktap/include" layout.c ||
	fail "layouts differ from those of the headers"

cat >test.py <<'END'
import contextlib
import errno
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import blktap


@contextlib.contextmanager
def raises(kind, number=None):
    caught = []
    try:
        yield caught
    except kind as error:
        assert number is None or error.errno == number, repr(error)
        caught.append(error)
    else:
        raise AssertionError("no %s" % kind.__name__)


def text(size):
    return bytes(range(256)) * (size // 256)


def requests():
    with open("a.raw", "wb") as f:
        f.truncate(8 << 20)
    with blktap.Context() as context:
        assert context.engine in ("io_uring", "libaio", "sync")
        disk = context.open("raw:a.raw", name="a")
        assert (disk.size, disk.name, disk.spec) == (8 << 20, "a", "raw:a.raw")
        assert disk.block_size >= 512 and not disk.read_only
        data = text(3 << 20)
        disk.write(777, data)
        disk.write(4 << 20, bytearray(data[:4096]), fua=True)
        disk.write(5 << 20, memoryview(data)[:512])
        disk.write(0, b"")
        assert disk.read(777, len(data)) == data
        assert disk.read(4 << 20, 4096) == data[:4096]
        assert disk.read(0, 0) == b""
        disk.flush()
        disk.discard(1 << 20, 65536)
        disk.write_zeroes(2 << 20, 1 << 20, may_unmap=True)
        assert disk.read(2 << 20, 1 << 20) == bytes(1 << 20)
        extents = disk.block_status()
        assert sum(e.length for e in extents) == disk.size
        assert [e.offset for e in extents][0] == 0 and extents[-1].zero
        for offset, length in ((disk.size, 1), (disk.size - 1, 2)):
            with raises(blktap.BlktapError, errno.EINVAL):
                disk.read(offset, length)
        with raises(blktap.BlktapError, errno.ENOSPC) as caught:
            disk.write(disk.size, b"x")
        assert "write of 1 bytes at 8388608" in str(caught[0])
        for offset in (-1, 1 << 64):
            with raises(ValueError):
                disk.write(offset, b"x")
        with raises(TypeError):
            disk.write(0, 5)
        ops = disk.stats()["operations"]
        assert ops["write"]["completed"] == 3, ops
        assert ops["flush"]["completed"] == 1, ops
        with raises(blktap.BlktapError, errno.EBUSY) as caught:
            context.open("raw:a.raw")
        context.open("raw:a.raw", force=True, read_only=True).close()
        disk.close()
    with open("a.raw", "rb") as f:
        f.seek(777)
        assert f.read(4096) == data[:4096]
    with blktap.Context(engine="sync") as context:
        assert context.engine == "sync"
        with context.open("raw:a.raw", read_only=True, buffered=True) as disk:
            assert disk.read_only
            assert disk.read(777, 10) == data[:10]
            with raises(blktap.BlktapError) as caught:
                disk.write(0, b"x")
            assert caught[0].errno == errno.EPERM


def errors():
    with blktap.Context() as context:
        with raises(blktap.BlktapError, errno.ENOENT) as caught:
            blktap.Disk(context, "raw:missing.raw")
        assert "missing.raw" in caught[0].strerror
        assert isinstance(caught[0], OSError)
        with raises(blktap.BlktapError) as caught:
            blktap.Disk(context, "vdh:missing.vhd")
        assert "vhd" in caught[0].hint, caught[0].hint
        with raises(ValueError):
            blktap.Disk(context, "raw:a\0b")
        with raises(ValueError):
            blktap.Context(engine="steam")


def closing():
    context = blktap.Context()
    disk = context.open("ram:1M")
    server = blktap.NbdServer(disk, "s")
    other = context.open("ram:1M")
    other.write(0, b"x")
    other.close()
    other.close()
    with raises(ValueError):
        other.read(0, 1)
    assert os.path.exists("s")
    context.close()
    assert not os.path.exists("s")
    for left in (server, disk, other, context):
        left.close()
    for use in (lambda: disk.size, lambda: server.uri, context.run,
                context.wake, lambda: context.open("ram:1M"),
                lambda: blktap.NbdServer(disk, "s")):
        with raises(ValueError):
            use()
    # a child of fork has none of it
    context = blktap.Context()
    disk = context.open("ram:1M")
    child = os.fork()
    if not child:
        try:
            disk.close()
            context.close()
            with raises(ValueError):
                disk.read(0, 1)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert disk.read(0, 1) == b"\0"
    # and nothing here closes this one


def logs():
    lines = []
    with blktap.Context(log=lambda *a: lines.append(a),
                        log_level="debug") as context:
        with context.open("ram:1M") as disk:
            disk.write(0, b"x")
        context.set_log(None)

        def reenter(level, line):
            with raises(RuntimeError):
                context.engine
            lines.append("reentered")

        del lines[:]
        context.set_log(reenter, "debug")
        with contextlib.suppress(blktap.BlktapError):
            context.open("qcow2:a.raw")
        with context.open("ram:1M") as disk:
            disk.pause()
            disk.resume()
    assert all(line == "reentered" for line in lines), lines


def pausing():
    with blktap.Context() as context, context.open("raw:a.raw") as disk:
        disk.pause(timeout=5)
        assert disk.paused
        with raises(blktap.BlktapError, errno.EALREADY):
            disk.pause()
        with raises(blktap.BlktapError, errno.EBUSY):
            disk.read(0, 1)
        with open("a.raw", "r+b") as f:
            f.write(b"outside")
        disk.resume()
        assert disk.read(0, 7) == b"outside"
        with raises(blktap.BlktapError, errno.EINVAL):
            disk.resume()


def images():
    blktap.create_image("qcow2", "q.qcow2", 1 << 20)
    with raises(blktap.BlktapError, errno.EEXIST):
        blktap.create_image("qcow2", "q.qcow2", 1 << 20)

    told = []
    blktap.create_image("raw", "full.raw", 64 << 20, reserve=True,
                        progress=lambda done, total: told.append((done, total)))
    assert told and told[-1] == (64 << 20, 64 << 20), told

    def enough(done, total):
        raise KeyboardInterrupt
    try:
        blktap.create_image("raw", "ended.raw", 64 << 20, reserve=True,
                            progress=enough)
        raise AssertionError("it went on")
    except KeyboardInterrupt:
        assert not os.path.exists("ended.raw")
    os.unlink("full.raw")

    blktap.resize_image("qcow2:q.qcow2", 2 << 20)
    with open("q.mason", "w") as f:
        f.write('d :: disk("d") -> qcow2("q.qcow2");\n')
    with blktap.Context() as context:
        with context.open("mason:q.mason") as disk:
            assert disk.size == 2 << 20
            disk.write(65536, b"before")
        with context.open("qcow2:q.qcow2") as disk:
            kept = disk.snapshot()
            disk.write(65536, b"behind")
            disk.resize(4 << 20)
            assert disk.size == 4 << 20
            depths = {e.depth for e in disk.block_status()}
            assert 0 in depths, depths
        with context.open("qcow2:" + kept, read_only=True) as disk:
            assert disk.read(65536, 6) == b"before"
        with context.open("qcow2:q.qcow2") as disk:
            assert disk.read(65536, 6) == b"behind"


def threads():
    with blktap.Context() as context:
        # woken from another thread
        threading.Timer(0.1, context.wake).start()
        begin = time.monotonic()
        context.run(60)
        assert time.monotonic() - begin < 50
        # refused from another thread while it is in use
        seen = []

        def use():
            try:
                context.run(0)
            except RuntimeError as error:
                seen.append(error)

        thread = threading.Thread(target=use)
        with context._use():
            thread.start()
            thread.join()
        assert seen

        # an exception of a signal's handler comes through
        def stop(*_):
            raise KeyboardInterrupt

        signal.signal(signal.SIGALRM, stop)
        with raises(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            context.run()
        # also out of a request, which goes on by itself
        blocked = context.open("raw:a.raw")
        for _ in range(5):
            with raises(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, 0.02)
                while True:
                    blocked.read(0, 1 << 20)
        assert blocked.read(0, 7) == b"outside"
        blocked.close()


def serve_for(server, *command):
    with open("out", "wb") as out:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out)
        end = time.monotonic() + 120
        while child.poll() is None:
            assert time.monotonic() < end, command
            server.serve(0.02)
    assert child.returncode == 0, (command, child.returncode)
    with open("out", encoding="utf-8") as out:
        return out.read()


def nbd():
    with blktap.Context() as context, context.open("raw:a.raw") as disk:
        with blktap.NbdServer(disk, os.path.abspath("s")) as server:
            assert server.uri.startswith("nbd+unix:///?socket=")
            with socket.socket(socket.AF_UNIX) as s:
                s.connect("s")
                while not server.clients:
                    server.serve(0.01)
                s.settimeout(10)
                server.serve(0.05)
                assert s.recv(8, socket.MSG_WAITALL) == b"NBDMAGIC"
            with raises(blktap.BlktapError, errno.EADDRINUSE):
                blktap.NbdServer(disk, os.path.abspath("s"))
            if shutil.which("nbdinfo"):
                size = serve_for(server, "nbdinfo", "--size", server.uri)
                assert int(size) == disk.size
            if shutil.which("qemu-img"):
                serve_for(server, "qemu-img", "convert", "-f", "raw", "-O",
                          "raw", server.uri, "copy.raw")
                with open("copy.raw", "rb") as f:
                    assert f.read() == disk.read(0, disk.size)
        with blktap.NbdServer(disk, host="127.0.0.1", port=0) as server:
            assert server.uri.startswith("nbd://127.0.0.1:")


assert blktap.version().count(".") == 2
for test in (requests, errors, closing, logs, pausing, images, threads, nbd):
    print(test.__name__, flush=True)
    test()
END
# from 3.12 on a fork beside threads, the engine's too, is told of
python3 -W error -W ignore::DeprecationWarning test.py
[ ! -e "$srcdir/bindings/python/__pycache__" ] ||
	fail "the test wrote into the sources"
