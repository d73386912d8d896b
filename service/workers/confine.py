"""What a worker may not do, asked of the kernel before a graph runs. All of it without root.

Promised on Linux: it dies when its parent does, whatever it is doing; it writes no core file; it
allocates no more than its budget; no signal meant for the service (Ctrl-C, SIGTERM to the group)
stops it; where the service runs as root, it has none of root's powers but to read and write files;
no other process of the service can be looked into by it. As far as the kernel takes a filter
(x86-64 and arm64, which is to say nearly always; `system_calls`): it opens no socket and connects
none, starts no program and no process, and does nothing to another one.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import stat
import struct

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION_3 = 0x20080522

libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, *arguments: int | bytes) -> None:
    """Change an attribute of this process; raise OSError where the kernel refuses."""
    padded = [*arguments, 0, 0, 0, 0][:4]
    values = [v if isinstance(v, bytes) else ctypes.c_ulong(v) for v in padded]
    if libc.prctl(option, *values):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def die_with(parent: int) -> None:
    """Have this process killed when ``parent``, which must be its parent, dies; die if it has."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def hide() -> None:
    """Let no process of the same user look into this one: its memory, environment, descriptors.

    What is true of a process is true of those that it forks, until they start a program.
    """
    prctl(_PR_SET_DUMPABLE, 0)


def drop_capabilities() -> None:
    """Keep none of root's powers but to read and write files, from where modules are imported."""
    kept = 1 << _CAP_DAC_OVERRIDE | 1 << _CAP_DAC_READ_SEARCH
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    sets = ctypes.create_string_buffer(24)  # effective, permitted, inheritable; twice 32 bits
    if libc.capget(header, sets):
        return
    now = struct.unpack("6I", sets.raw)
    wanted = [now[0] & kept, now[1] & kept, 0, 0, 0, 0]
    libc.capset(header, struct.pack("6I", *wanted))


def adopt_orphans() -> None:
    """Become the parent of grandchildren whose parent dies, so that none stays a zombie."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def name(title: str) -> None:
    """Show ``title`` (15 characters) as this process's name in ps and top."""
    prctl(_PR_SET_NAME, title.encode())


def ignore_signals() -> None:
    """Leave it to the web process to stop this one."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)


def close_descriptors(keep: int) -> None:
    """Close every open file but standard input, output, error and ``keep``."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and fd != keep:
            with contextlib.suppress(OSError):  # the one that listed them is closed by now
                os.close(fd)


def without_waiting(fd: int) -> int:
    """Return a descriptor of the pipe or terminal of ``fd`` to which writing never blocks.

    Other processes, such as a shell, share ``fd`` and whether it blocks, so the file is opened
    once more; where that cannot be, as with a socket, ``fd`` itself is returned.
    """
    mode = os.fstat(fd).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        with contextlib.suppress(OSError):
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    return fd


def let_standard_error_go_unread() -> None:
    """Have no graph wait for a reader of what PyTorch writes there: what is not taken is lost."""
    if (opened := without_waiting(2)) != 2:
        os.dup2(opened, 2)
        os.close(opened)


def no_core_files() -> None:
    """Write no core file and feed no core handler: 1 is the limit that stops both (core(5))."""
    resource.setrlimit(resource.RLIMIT_CORE, (1, 1))


def cause_of_death(ended: os.waitid_result | None) -> str:
    """Return how a process ended: the signal's name, or the exit code."""
    if ended is None:
        return "unknown"
    if ended.si_code == os.CLD_EXITED:
        return f"exit code {ended.si_status}"
    return signal.Signals(ended.si_status).name


class Memory:
    """What this process has allocated, as the kernel counts it against RLIMIT_DATA."""

    def __init__(self) -> None:
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._page = resource.getpagesize()

    def used(self) -> int:
        """Return the bytes in use now; takes some 2 microseconds."""
        return int(os.pread(self._statm, 256, 0).split()[5]) * self._page

    def allow(self, more: int) -> None:
        """Let this process allocate ``more`` bytes beyond what it has now, and never more."""
        limit = self.used() + more
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def keep_freed(size: int) -> None:
    """Have the C library keep freed blocks of up to ``size`` bytes for the next request.

    glibc maps every block above a threshold afresh, page by page, and raises the threshold (and to
    twice its size, what it keeps free at the end of the heap) when such a block is freed, up to 32
    MiB: see M_MMAP_THRESHOLD in mallopt(3). Setting the threshold would end that, so one is freed.
    Requests of 1 MB take about a sixth less time. Blocks of 4 MiB leave a heap in pieces now and
    then, so that the worker has to be replaced.
    """
    bytes(size)


def trim() -> None:
    """Have the C library give free memory back to the kernel."""
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
