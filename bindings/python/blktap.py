# SPDX-License-Identifier: BSD-3-Clause
"""libblktap from Python: disk images, and serving them, through ctypes.

>>> import blktap
>>> blktap.create_image("qcow2", "disk.qcow2", 64 << 20)
>>> with blktap.Context() as context:
...     with blktap.Disk(context, "qcow2:disk.qcow2") as disk:
...         disk.write(4096, b"hello", fua=True)
...         disk.read(4096, 5), disk.size
(b'hello', 67108864)

A disk is named by a spec: `type:path` (`vhd:/img/a.vhd`, `mason:d.mason`), or
a description `class(arguments)` (`raw("a.raw", ro=true)`). Offsets and lengths
are bytes, times are seconds.

Who owns what. A context owns its disks and a disk its servers: each keeps alive
what it stands on, and closing it closes what stands on it first. Close them, or
use `with`; Disk.close() flushes and says whether that failed. A context that is
never closed lives until the program ends. Closing again does nothing; any other
use after that raises ValueError, and so does every use in a child of fork.

Threads. A context, with all that belongs to it, is for one thread at a time,
and may not be called from inside its log function: RuntimeError. Context.wake()
alone may come from any thread. Several contexts do not know of each other.

Calls wait until their work is done, and whatever else the context has to do
goes on meanwhile, so NBD clients are served too. Between calls nothing moves:
see NbdServer.serve() and Context.run(), or Context.fileno() for a loop of your
own.

The library is libblktap.so.0, or what the environment names in BLKTAP_LIBRARY.
"""
import atexit
import collections
import contextlib
import ctypes
import errno as _errno
import itertools
import json
import math
import os
import threading
import time

__all__ = ["BlktapError", "Context", "Disk", "Extent", "NbdServer",
           "create_image", "resize_image", "version"]

_ENGINES = ("auto", "io_uring", "libaio", "sync")
_LEVELS = ("error", "warning", "info", "debug")
_POLICIES = ("report", "retry")
_READ, _WRITE, _FLUSH, _DISCARD, _WRITE_ZEROES, _BLOCK_STATUS = range(6)
_OPS = ("read", "write", "flush", "discard", "write_zeroes", "block_status")
_FUA, _MAY_UNMAP = 1, 2
_HOLE, _ZERO = 1, 2
_OPEN_READ_ONLY, _OPEN_FORCE, _OPEN_BUFFERED = 1, 2, 4
_CREATE_OVERWRITE, _CREATE_RESERVE = 1, 2
_EXTENTS = 256
# A signal that comes just before a wait does not end it: look this often.
_SLICE_MS = 250

_int, _ptr, _str = ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p
_u32, _u64, _bool = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_bool
_size = ctypes.c_size_t


class _Sized(ctypes.Structure):
    """A structure that begins with its own size; all else is 0 or given."""

    def __init__(self, **fields):
        super().__init__(**fields)
        self.size = ctypes.sizeof(self)


class _ContextOptions(_Sized):
    _fields_ = [("size", _size), ("engine", _int), ("queue_depth", _u32),
                ("poll_us", _u32)]


class _DiskOptions(_Sized):
    _fields_ = [("size", _size), ("flags", _u32), ("queue_depth", _u32),
                ("deadline_ms", _u32), ("on_io_error", _int),
                ("on_no_space", _int), ("name", _str), ("busy_ms", _u32)]


class _DiskInfo(_Sized):
    _fields_ = [("size", _size), ("length", _u64), ("block_size", _u32),
                ("preferred_block_size", _u32), ("max_transfer", _u64),
                ("discard_granularity", _u64), ("operations", _u32),
                ("read_only", _bool), ("paused", _bool),
                ("native_fua", _bool)]


class _Iovec(ctypes.Structure):
    _fields_ = [("iov_base", _ptr), ("iov_len", _size)]


class _Extent(ctypes.Structure):
    _fields_ = [("length", _u64), ("flags", _u32), ("depth", _u32)]


class _Io(_Sized):
    _fields_ = [("size", _size), ("op", _int), ("flags", _u32),
                ("offset", _u64), ("length", _u64),
                ("iov", ctypes.POINTER(_Iovec)), ("iov_count", _u32),
                ("extents", ctypes.POINTER(_Extent)), ("extent_max", _u32),
                ("extent_count", ctypes.POINTER(_u32)), ("callback", _ptr),
                ("opaque", _ptr)]


class _IoResult(ctypes.Structure):
    _fields_ = [("opaque", _ptr), ("error", _int)]


class _NbdOptions(_Sized):
    _fields_ = [("size", _size), ("unix_path", _str), ("host", _str),
                ("port", _str), ("export_name", _str), ("description", _str),
                ("any_name", _bool), ("read_only", _bool),
                ("max_clients", _u32), ("client_memory", _u32),
                ("tls_certificates", _str), ("tls_psk", _str), ("tls", _int),
                ("tls_verify_peer", _bool)]


class _ImageOptions(_Sized):
    # the header calls the first one struct_size
    _fields_ = [("size", _size), ("flags", _u32), ("length", _u64),
                ("backing", _str), ("backing_format", _str),
                ("cluster_size", _u64), ("extra", _str),
                ("progress", _ptr), ("opaque", _ptr)]


_ProgressFn = ctypes.CFUNCTYPE(_int, _ptr, _u64, _u64)
_LogFn = ctypes.CFUNCTYPE(None, _ptr, _int, _str)
_PauseFn = ctypes.CFUNCTYPE(None, _ptr, _int, _str)
_perr = ctypes.POINTER(_ptr)


def _ref(structure):
    return ctypes.POINTER(structure)


# name: what it returns, what it takes
_FUNCTIONS = {
    "version": (_str,),
    "error_get_code": (_int, _ptr),
    "error_get_message": (_str, _ptr),
    "error_get_hint": (_str, _ptr),
    "error_destroy": (None, _ptr),
    "context_create": (_int, _ref(_ContextOptions), _perr, _perr),
    "context_destroy": (None, _ptr),
    "context_get_engine": (_str, _ptr),
    "context_set_log": (None, _ptr, _int, _LogFn, _ptr, _ptr),
    "context_get_fd": (_int, _ptr),
    "context_get_timeout": (_int, _ptr),
    "context_process": (_int, _ptr),
    "context_run": (_int, _ptr, _int),
    "context_wake": (None, _ptr),
    "disk_open": (_int, _ptr, _str, _ref(_DiskOptions), _perr, _perr),
    "disk_close": (_int, _ptr),
    "disk_get_info": (None, _ptr, _ref(_DiskInfo)),
    "disk_get_spec": (_str, _ptr),
    "disk_get_name": (_str, _ptr),
    "disk_submit": (_int, _ptr, _ref(_Io)),
    "disk_poll": (_u32, _ptr, _ref(_IoResult), _u32),
    "disk_pause": (_int, _ptr, _u32, _PauseFn, _ptr),
    "disk_resume": (_int, _ptr, _str, _perr),
    "disk_snapshot": (_int, _ptr, _str, _u32, _perr, _perr),
    "disk_resize": (_int, _ptr, _u64, _u32, _perr),
    "disk_get_stats_json": (_ptr, _ptr, _bool),
    "nbd_server_create": (_int, _ptr, _ref(_NbdOptions), _perr, _perr),
    "nbd_server_destroy": (_int, _ptr),
    "nbd_server_get_uri": (_str, _ptr),
    "nbd_server_get_clients": (_u32, _ptr),
    "image_create": (_int, _str, _str, _ref(_ImageOptions), _perr),
    "image_resize": (_int, _str, _u64, _perr),
}


class _Library:
    """The functions above, without `blktap_`."""

    def __init__(self):
        library = ctypes.CDLL(os.environ.get("BLKTAP_LIBRARY")
                              or "libblktap.so.0")
        for name, (result, *arguments) in _FUNCTIONS.items():
            function = getattr(library, "blktap_" + name)
            function.restype = result
            function.argtypes = arguments
            setattr(self, name, function)
        self.free = ctypes.CDLL(None).free
        self.free.restype = None
        self.free.argtypes = [_ptr]


_lib = _Library()


class BlktapError(OSError):
    """errno and strerror as of OSError, and hint: one thing to do, or ""."""

    def __init__(self, number, message, hint=""):
        super().__init__(number, message)
        self.hint = hint


def _check(rc, err=None, what=None):
    """Raises what a call failed with; err is its error pointer, if it has one.
    """
    if rc >= 0:
        return rc
    message, hint = os.strerror(-rc), ""
    if err:
        message = _text(_lib.error_get_message(err))
        hint = _text(_lib.error_get_hint(err))
        _lib.error_destroy(err)
    elif what:
        message = "%s: %s" % (what, message)
    raise BlktapError(-rc, message, hint)


def _text(value):
    return os.fsdecode(value)


def _bytes(value):
    """A string or path for C, or None."""
    if value is None:
        return None
    value = os.fsencode(value)
    if b"\0" in value:
        raise ValueError("a NUL in a string")
    return value


def _number(value, bits, what):
    """What ctypes would cut to its size without a word."""
    if not 0 <= value < 1 << bits:
        raise ValueError("%s is out of range: %d" % (what, value))
    return value


def _choice(value, choices, what):
    if value not in choices:
        raise ValueError("%s is %r, not one of %s"
                         % (what, value, ", ".join(choices)))
    return choices.index(value)


def _ms(seconds):
    """Milliseconds, not 0 unless there is no limit."""
    if seconds is None:
        return 0
    return max(1, _number(math.ceil(seconds * 1000), 31, "time"))


def _take(pointer):
    """The text of a string that is ours to free."""
    try:
        return _text(ctypes.string_at(pointer.value))
    finally:
        _lib.free(pointer)


def version():
    """The version of the library in use, "0.1.0"."""
    return _text(_lib.version())


def create_image(format, path, length=0, *, backing=None, backing_format=None,
                 cluster_size=0, overwrite=False, reserve=False, extra=None,
                 progress=None):
    """Makes an empty image file of that format, the name of a class.

    length 0 is that of backing, which needs its backing_format. What takes long
    calls progress(done, total), bytes both; one that raises ends it, and nothing
    is left of the image. Needs no context. Blocks.
    """
    raised = []

    def tell(_, done, total):
        try:
            progress(done, total)
        except BaseException as e:  # on its way through C
            raised.append(e)
            return 1
        return 0

    function = _ProgressFn(tell) if progress else None
    options = _ImageOptions(
        flags=(_CREATE_OVERWRITE if overwrite else 0)
        | (_CREATE_RESERVE if reserve else 0),
        length=_number(length, 64, "length"), backing=_bytes(backing),
        backing_format=_bytes(backing_format),
        cluster_size=_number(cluster_size, 64, "cluster_size"),
        extra=_bytes(extra), progress=ctypes.cast(function or 0, _ptr))
    err = _ptr()
    rc = _lib.image_create(_bytes(format), _bytes(path), options, err)
    if raised:
        if err:
            _lib.error_destroy(err)
        raise raised[0]
    _check(rc, err)


def resize_image(spec, length):
    """Makes an image that nobody has open larger; see Disk.resize. Blocks."""
    err = _ptr()
    _check(_lib.image_resize(_bytes(spec), _number(length, 64, "length"), err),
           err)


# Contexts that are open: nobody frees what the kernel may still write to.
_open = set()


def _at_exit():
    for context in list(_open):
        with contextlib.suppress(Exception):
            context.close()


def _in_child():
    for context in _open:
        context._handle = None
    _open.clear()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_in_child)


class _Closable:
    """What a with statement closes at its end."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Context(_Closable):
    """The owner of disks and servers; for one thread at a time.

    engine: "auto", "io_uring", "libaio" or "sync". queue_depth: operations in
    the kernel at once. poll_us: how long a wait looks for a client's next
    request before it sleeps, at most 1000. 0 is the library's default.
    """

    def __init__(self, *, engine="auto", queue_depth=0, poll_us=0, log=None,
                 log_level="info"):
        self._handle = None
        self._lock = threading.Lock()
        # a signal's handler may come in the middle of it
        self._wake_lock = threading.RLock()
        self._woken = False
        self._log = _LogFn()
        self._disks = []
        options = _ContextOptions(
            engine=_choice(engine, _ENGINES, "engine"),
            queue_depth=_number(queue_depth, 32, "queue_depth"),
            poll_us=_number(poll_us, 32, "poll_us"))
        out, err = _ptr(), _ptr()
        _check(_lib.context_create(options, out, err), err)
        self._handle = out.value
        _open.add(self)
        if log:
            try:
                self.set_log(log, log_level)
            except BaseException:
                self.close()
                raise

    # A lock is taken and given back by `with` without a moment at which an
    # exception of a signal's handler could keep it, as one between the calls of a
    # context manager of our own would: its generator lives with the traceback.
    def _use(self):
        if self._lock.locked():
            raise RuntimeError("the context is in use, by another thread or "
                               "around this log function")
        return self._lock

    def _live(self):
        """What the library knows it by. Called under _use()."""
        if not self._handle:
            raise ValueError("the context is closed")
        return self._handle

    def close(self):
        """Closes its disks and their servers, and frees it.

        Raises the first failure of these, when all are closed.
        """
        failure = None
        if not self._handle:
            return
        for disk in list(self._disks):
            try:
                disk.close()
            except BlktapError as error:
                failure = failure or error
        with self._use():
            handle = self._live()
            with self._wake_lock:
                self._handle = None
            _lib.context_destroy(handle)
        _open.discard(self)
        if failure:
            raise failure

    @property
    def engine(self):
        """The engine in use: "io_uring", "libaio" or "sync"."""
        with self._use():
            handle = self._live()
            return _text(_lib.context_get_engine(handle))

    def set_log(self, log, level="info"):
        """Sends log lines up to a level to log(level, text); None: nowhere.

        level is "error", "warning", "info" or "debug". The function is called
        inside other calls and may not use the context; what it raises is
        printed and does not reach the caller.
        """
        number = _choice(level, _LEVELS, "level")

        def line(_, level, text):
            log(_LEVELS[level], text.decode(errors="replace"))

        function = _LogFn(line) if log else _LogFn()
        with self._use():
            handle = self._live()
            _lib.context_set_log(handle, number, function, None, None)
            # not before: C has called the old one until now
            self._log = function

    def open(self, spec, **options):
        """Disk(self, spec, ...)."""
        return Disk(self, spec, **options)

    def run(self, seconds=None):
        """Does the context's work for that long, or until wake() is called."""
        end = None if seconds is None else time.monotonic() + seconds
        while not self._woken:
            ms = _SLICE_MS
            if end is not None:
                left = max(0, math.ceil((end - time.monotonic()) * 1000))
                ms = min(ms, left)
            self._turn(ms)
            if end is not None and time.monotonic() >= end:
                break
        self._woken = False

    def wake(self):
        """Ends a run() that goes on, or else the next one. Any thread."""
        with self._wake_lock:
            if not self._handle:
                raise ValueError("the context is closed")
            self._woken = True
            _lib.context_wake(self._handle)

    def fileno(self):
        """A descriptor that is readable when process() has work to do."""
        with self._use():
            handle = self._live()
            return _lib.context_get_fd(handle)

    def timeout(self):
        """Seconds until process() is due in any case; None: never."""
        with self._use():
            handle = self._live()
            ms = _lib.context_get_timeout(handle)
        return None if ms < 0 else ms / 1000

    def process(self):
        """Does all work that is ready, and does not wait."""
        with self._use():
            handle = self._live()
            _check(_lib.context_process(handle))

    def _turn(self, ms=_SLICE_MS):
        with self._use():
            handle = self._live()
            _check(_lib.context_run(handle, ms))


Extent = collections.namedtuple("Extent", "offset length hole zero depth")
Extent.__doc__ = """A part of a disk.

hole: it takes no space. zero: it reads as zeroes. depth: 0 where the image
itself has it, 1 its parent, and so on.
"""

_keys = itertools.count(1)
_pauses = {}


@_PauseFn
def _on_pause(opaque, error, message):
    _pauses[opaque] = (error, message)


class Disk(_Closable):
    """An open disk of a context. Every call blocks until it is done.

    busy: seconds to wait for an image that another program has open. deadline:
    seconds after which a request is late, or no longer retried. on_io_error,
    on_no_space: "report" or "retry". name: in logs and statistics. force opens
    in spite of another's lock: two writers destroy an image. buffered goes
    through the page cache.
    """

    def __init__(self, context, spec, *, read_only=False, force=False,
                 buffered=False, name=None, queue_depth=0, deadline=None,
                 busy=None, on_io_error="report", on_no_space="report"):
        self._handle = None
        self._context = context
        self._servers = []
        # what C uses until a request is done, even where we were interrupted
        self._pending = {}
        options = _DiskOptions(
            flags=(_OPEN_READ_ONLY if read_only else 0)
            | (_OPEN_FORCE if force else 0)
            | (_OPEN_BUFFERED if buffered else 0),
            queue_depth=_number(queue_depth, 32, "queue_depth"),
            deadline_ms=_ms(deadline), busy_ms=_ms(busy), name=_bytes(name),
            on_io_error=_choice(on_io_error, _POLICIES, "on_io_error"),
            on_no_space=_choice(on_no_space, _POLICIES, "on_no_space"))
        spec = _bytes(spec)
        out, err = _ptr(), _ptr()
        with context._use():
            handle = context._live()
            _check(_lib.disk_open(handle, spec, options, out, err), err)
            self._handle = out.value
            context._disks.append(self)

    def _use(self):
        return self._context._use()

    def _live(self):
        self._context._live()
        if not self._handle:
            raise ValueError("the disk is closed")
        return self._handle

    def close(self):
        """Closes its servers, waits for its requests, flushes, and closes it.

        An error is that of the flush, and what was not flushed may be lost;
        the disk is closed all the same.
        """
        if not self._handle or not self._context._handle:
            return
        for server in list(self._servers):
            server.close()
        with self._use():
            handle = self._live()
            self._handle = None
            rc = _lib.disk_close(handle)
            self._pending.clear()
            self._context._disks.remove(self)
        _check(rc, what="close")

    def _info(self):
        info = _DiskInfo()
        with self._use():
            handle = self._live()
            _lib.disk_get_info(handle, info)
        return info

    @property
    def size(self):
        """Bytes."""
        return self._info().length

    @property
    def block_size(self):
        """Requests smaller than this cost a read and a write."""
        return self._info().block_size

    @property
    def read_only(self):
        return self._info().read_only

    @property
    def paused(self):
        return self._info().paused

    @property
    def spec(self):
        with self._use():
            handle = self._live()
            return _text(_lib.disk_get_spec(handle))

    @property
    def name(self):
        with self._use():
            handle = self._live()
            return _text(_lib.disk_get_name(handle))

    def _reap(self):
        results = (_IoResult * 16)()
        with self._use():
            handle = self._live()
            count = _lib.disk_poll(handle, results, len(results))
        for result in results[:count]:
            self._pending[result.opaque][1] = result.error
        return count

    def _request(self, op, offset=0, length=0, flags=0, data=None,
                 extents=None):
        """Submits one request and waits for it; data is (address, owner)."""
        if self.paused:
            raise BlktapError(_errno.EBUSY, "%s is paused" % self.name,
                              "resume it: nobody else could, while this waits")
        io = _Io(op=op, flags=flags, offset=_number(offset, 64, "offset"),
                 length=_number(length, 64, "length"))
        iov, count = _Iovec(), _u32()
        if data:
            iov.iov_base, iov.iov_len = data[0], length
            io.iov, io.iov_count = ctypes.pointer(iov), 1
        if extents:
            io.extents, io.extent_max = extents, len(extents)
            io.extent_count = ctypes.pointer(count)
        key = next(_keys)
        io.opaque = key
        state = [(iov, count, data, extents), None]
        self._pending[key] = state
        while True:
            with self._use():
                handle = self._live()
                rc = _lib.disk_submit(handle, io)
            if rc != -_errno.EAGAIN:
                break
            self._context._turn()
            self._drop()
        what = "%s of %d bytes at %d" % (_OPS[op], length, offset)
        if rc < 0:
            del self._pending[key]
            _check(rc, what=what)
        while state[1] is None:
            if not self._reap():
                self._context._turn()
        self._drop()
        _check(state[1], what=what)
        return count.value

    def _drop(self):
        """Forgets requests that have ended, also those nobody waits for."""
        while self._reap():
            pass
        for key in [k for k, s in self._pending.items() if s[1] is not None]:
            del self._pending[key]

    def read(self, offset, length):
        """length bytes from offset."""
        if not _number(length, 48, "length"):
            return b""
        buffer = ctypes.create_string_buffer(length)
        self._request(_READ, offset, length,
                      data=(ctypes.addressof(buffer), buffer))
        return buffer.raw

    def write(self, offset, data, fua=False):
        """Writes a bytes-like object; fua: durable when this returns."""
        if not isinstance(data, bytes):
            data = memoryview(data).tobytes()
        if data:
            address = ctypes.cast(_str(data), _ptr).value
            self._request(_WRITE, offset, len(data), _FUA if fua else 0,
                          data=(address, data))

    def flush(self):
        """All writes that have returned are durable."""
        self._request(_FLUSH)

    def discard(self, offset, length):
        """The contents become undefined."""
        self._request(_DISCARD, offset, length)

    def write_zeroes(self, offset, length, fua=False, may_unmap=False):
        """Writes zeroes; may_unmap: it may leave a hole."""
        self._request(_WRITE_ZEROES, offset, length,
                      (_FUA if fua else 0) | (_MAY_UNMAP if may_unmap else 0))

    def block_status(self, offset=0, length=None):
        """Extents that cover length bytes (None: to the end), in order."""
        if length is None:
            length = max(0, self.size - offset)
        found, end = [], offset + length
        while offset < end:
            extents = (_Extent * _EXTENTS)()
            count = self._request(_BLOCK_STATUS, offset, end - offset,
                                  extents=extents)
            begin = offset
            for e in extents[:count]:
                size = min(e.length, end - offset)
                found.append(Extent(offset, size, bool(e.flags & _HOLE),
                                    bool(e.flags & _ZERO), e.depth))
                offset += size
            if offset == begin:
                raise BlktapError(_errno.EIO, "no block status at %d" % offset)
        return found

    def pause(self, timeout=None):
        """Flushes and closes the image's files, until resume().

        Clients' requests wait; those of this object are refused with EBUSY.
        """
        key = next(_keys)
        with self._use():
            handle = self._live()
            _check(_lib.disk_pause(handle, _ms(timeout), _on_pause, key),
                   what="pause")
        while key not in _pauses:
            self._context._turn()
        error, message = _pauses.pop(key)
        if error < 0:
            raise BlktapError(-error, _text(message) or os.strerror(-error))

    def resume(self, spec=None):
        """Goes on, with the image of another spec where one is given.

        Where that fails, the disk stays paused.
        """
        spec, err = _bytes(spec), _ptr()
        with self._use():
            handle = self._live()
            _check(_lib.disk_resume(handle, spec, err), err)

    def snapshot(self, name=None, timeout=None):
        """Keeps what a running qcow2, qcow or vhd disk holds now.

        Returns the file it is in: name, or FILE.snapN; the disk goes on in an
        empty child of that.
        """
        name, path, err = _bytes(name), _ptr(), _ptr()
        with self._use():
            handle = self._live()
            _check(_lib.disk_snapshot(handle, name, _ms(timeout), path, err),
                   err)
        return _take(path)

    def resize(self, length, timeout=None):
        """Makes a running disk larger, and tells its clients."""
        length, err = _number(length, 64, "length"), _ptr()
        with self._use():
            handle = self._live()
            _check(_lib.disk_resize(handle, length, _ms(timeout), err), err)

    def stats(self):
        """Statistics of the disk and of every node of its graph, a dict.

        What `tap-ctl stats --json` prints.
        """
        with self._use():
            handle = self._live()
            text = _ptr(_lib.disk_get_stats_json(handle, False))
        if not text:
            raise MemoryError
        return json.loads(_take(text))


class NbdServer(_Closable):
    """Offers a disk to NBD clients, on a unix socket or over TCP.

    Clients are served while something runs the context: serve(), or any call
    that waits. port is a number or a service, and 10809 where there is none.
    any_name: every export name is taken, not only export_name. tls is "off",
    "on" (clients may use it) or "require", with tls_certificates, a directory,
    or tls_psk, a file of keys.
    """

    def __init__(self, disk, unix_path=None, *, host=None, port=None,
                 export_name=None, description=None, any_name=False,
                 read_only=False, max_clients=0, tls="off",
                 tls_certificates=None, tls_psk=None, tls_verify_peer=False):
        self._handle = None
        self._disk = disk
        options = _NbdOptions(
            unix_path=_bytes(unix_path), host=_bytes(host),
            port=None if port is None else _bytes(str(port)),
            export_name=_bytes(export_name), description=_bytes(description),
            any_name=any_name, read_only=read_only,
            max_clients=_number(max_clients, 32, "max_clients"),
            tls=("off", "on", "require").index(tls),
            tls_certificates=_bytes(tls_certificates),
            tls_psk=_bytes(tls_psk), tls_verify_peer=tls_verify_peer)
        out, err = _ptr(), _ptr()
        with disk._use():
            handle = disk._live()
            _check(_lib.nbd_server_create(handle, options, out, err), err)
            self._handle = out.value
            disk._servers.append(self)

    def _use(self):
        return self._disk._use()

    def _live(self):
        self._disk._live()
        if not self._handle:
            raise ValueError("the server is closed")
        return self._handle

    def close(self):
        """Answers what is under way, ends connections, removes the socket."""
        if not self._handle or not self._disk._context._handle:
            return
        with self._use():
            handle = self._live()
            self._handle = None
            rc = _lib.nbd_server_destroy(handle)
            self._disk._servers.remove(self)
        _check(rc, what="close")

    @property
    def uri(self):
        """As clients take it: "nbd+unix:///?socket=/path"."""
        with self._use():
            handle = self._live()
            return _text(_lib.nbd_server_get_uri(handle))

    @property
    def clients(self):
        """Connections at present."""
        with self._use():
            handle = self._live()
            return _lib.nbd_server_get_clients(handle)

    def serve(self, seconds=None):
        """Context.run() of the disk's context, while the server is open."""
        with self._use():
            self._live()
        self._disk._context.run(seconds)
