"""The system calls that a worker is refused: a classic BPF program for seccomp(2).

What is refused fails with EPERM, and the worker goes on. Each rule is a few steps of the program:
the call's number, a look at one argument, the verdict. All other calls are allowed, and cost
nothing more: the kernel knows those without asking the program.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable
from typing import Literal, NamedTuple

from service.workers.confine import libc, prctl

_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER = 1
_KEEP_SPECULATION = 4  # SECCOMP_FILTER_FLAG_SPEC_ALLOW: stores stay as quick as they are

_CLONE_THREAD = 0x10000
_F_SETOWN, _F_SETOWN_EX = 8, 15
_FIOSETOWN, _SIOCSPGRP = 0x8901, 0x8902

# Numbers: x86-64's, arm64's; None where there is no such call.
_NEVER = {
    "socket": (41, 198),  # the one to the pool is there already
    "connect": (42, 203),
    "execve": (59, 221),
    "execveat": (322, 281),
    "fork": (57, None),
    "vfork": (58, None),
    "setsid": (112, 157),  # the pool kills by group
    "setpgid": (109, 154),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "pidfd_send_signal": (424, 424),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "io_uring_setup": (425, 425),  # would do all of this out of the filter's sight
}
_ON_ITSELF = {"kill": (62, 129), "tgkill": (234, 131)}  # abort(3) does
_ON_ZERO = {"prlimit64": (302, 261), "sched_setaffinity": (203, 122)}  # which is itself
_CLONE = (56, 220)
_CLONE3 = (435, 435)
_FCNTL = (72, 25)
_IOCTL = (16, 29)

_MACHINES = {"x86_64": (0, 317, 0xC000003E), "aarch64": (1, 277, 0xC00000B7)}
"""By machine: where its numbers stand above, seccomp's own, AUDIT_ARCH of linux/audit.h."""

Test = Literal["equal", "has_bits"]


class Rule(NamedTuple):
    """One call, and what its argument has to be.

    Args:
        call: its number.
        argument: which argument is looked at (its low 32 bits); None refuses the call whatever it
            is given.
        test: ``equal`` to one of ``values``, or that it ``has_bits`` of the one value.
        allows: whether the call is allowed, or refused, where the test is true.
        error: what the refused caller gets.
    """

    call: int
    argument: int | None = None
    test: Test = "equal"
    values: tuple[int, ...] = ()
    allows: bool = True
    error: int = errno.EPERM


def filter_system_calls() -> bool:
    """Refuse this process what only a graph that took it over would try, for good.

    Must be called in the worker itself, after the fork: what it may do to itself goes by its pid.
    Returns whether the filter is in force.
    """
    if platform.machine() not in _MACHINES:
        return False
    column, seccomp, architecture = _MACHINES[platform.machine()]
    steps = program(rules(column, os.getpid()), architecture)
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    filter_ = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    )
    try:
        prctl(_PR_SET_NO_NEW_PRIVS, 1)
    except OSError:
        return False
    return not libc.syscall(seccomp, _SET_MODE_FILTER, _KEEP_SPECULATION, filter_)


def rules(column: int, pid: int) -> list[Rule]:
    """Return the rules for process ``pid`` by the numbers in ``column``."""
    never = (numbers[column] for numbers in _NEVER.values())
    return [
        *(Rule(number) for number in never if number is not None),
        *(Rule(numbers[column], 0, values=(pid,)) for numbers in _ON_ITSELF.values()),
        *(Rule(numbers[column], 0, values=(0,)) for numbers in _ON_ZERO.values()),
        Rule(_CLONE[column], 0, "has_bits", (_CLONE_THREAD,)),
        # Its flags lie in memory, where no filter looks. The C library then takes clone.
        Rule(_CLONE3[column], error=errno.ENOSYS),
        # Who owns a descriptor gets a signal of one's choice from it.
        Rule(_FCNTL[column], 1, values=(_F_SETOWN, _F_SETOWN_EX), allows=False),
        Rule(_IOCTL[column], 1, values=(_FIOSETOWN, _SIOCSPGRP), allows=False),
    ]


_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _GIVE = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_X32 = 0x40000000
"""From here on x86-64 numbers the calls of an ABI of 32 bits, which pass by no rule."""

Step = tuple[int, int, int, int]
"""What to do, steps to skip if it is true and if it is not, the operand."""


def program(rules: Iterable[Rule], architecture: int) -> list[Step]:
    """Return the program; another architecture's calls are refused altogether."""
    refuse = (_GIVE, 0, 0, _REFUSE | errno.EPERM)
    steps: list[Step] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        refuse,
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        refuse,
    ]
    for rule in rules:
        verdict = _verdict(rule)
        steps += [(_EQUAL, 0, len(verdict), rule.call), *verdict]
    return [*steps, (_GIVE, 0, 0, _ALLOW)]


def _verdict(rule: Rule) -> list[Step]:
    refuse = (_GIVE, 0, 0, _REFUSE | rule.error)
    if rule.argument is None:
        return [refuse]
    allow = (_GIVE, 0, 0, _ALLOW)
    test = _EQUAL if rule.test == "equal" else _ANY_BIT
    last = len(rule.values)
    return [
        (_LOAD, 0, 0, _ARGUMENTS + 8 * rule.argument),
        *((test, last - at, 0, value) for at, value in enumerate(rule.values)),
        refuse if rule.allows else allow,
        allow if rule.allows else refuse,
    ]
