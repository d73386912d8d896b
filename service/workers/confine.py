"""What a worker may not do, asked of the kernel before a graph runs. All of it without root.

Promised on Linux: it dies when its parent does, whatever it is doing; it writes no core file; it
allocates no more than its budget; no signal meant for the service (Ctrl-C, SIGTERM to the group)
stops it. As far as the kernel takes a filter (x86-64 and arm64, which is to say nearly always): it
opens no socket and connects none, starts no program, and looks into no other process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import signal
import struct

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, *arguments: int | bytes) -> None:
    padded = [*arguments, 0, 0, 0, 0][:4]
    values = [v if isinstance(v, bytes) else ctypes.c_ulong(v) for v in padded]
    if _libc.prctl(option, *values):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def die_with(parent: int) -> None:
    """Have this process killed when ``parent``, which must be its parent, dies; die if it has."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of grandchildren whose parent dies, so that none stays a zombie."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def name(title: str) -> None:
    """Show ``title`` (15 characters) as this process's name in ps and top."""
    _prctl(_PR_SET_NAME, title.encode())


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
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)


# The system calls refused with EPERM: socket connect ptrace execve execveat process_vm_readv
# process_vm_writev io_uring_setup. The socket to the pool is there already.
_SECCOMP = {
    "x86_64": (317, 0xC000003E, (41, 42, 101, 59, 322, 310, 311, 425)),
    "aarch64": (277, 0xC00000B7, (198, 203, 117, 221, 281, 270, 271, 425)),
}


def filter_system_calls() -> bool:
    """Refuse new sockets, programs and looks into others, for good; return whether it is in force.

    A classic BPF program for seccomp(2): another architecture's calls pass through no table and
    are refused, so are those on the list; all others are allowed.
    """
    if platform.machine() not in _SECCOMP:
        return False
    seccomp, architecture, calls = _SECCOMP[platform.machine()]
    load, jump_equal, jump_at_least, give = 0x20, 0x15, 0x35, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000 | 1
    last = len(calls) + 3
    steps = [
        (load, 0, 0, 4),
        (jump_equal, 0, last, architecture),
        (load, 0, 0, 0),
        (jump_at_least, last - 2, 0, 0x40000000),
        *((jump_equal, len(calls) - at, 0, call) for at, call in enumerate(calls)),
        (give, 0, 0, allow),
        (give, 0, 0, refuse),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    )
    set_mode_filter, without_slow_stores = 1, 4
    try:
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    except OSError:
        return False
    refused = _libc.syscall(seccomp, set_mode_filter, without_slow_stores, program)
    return not refused
