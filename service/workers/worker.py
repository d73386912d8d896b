"""A worker: takes one request at a time off its socket, runs the job, sends the answer back.

It is forked from a process that has imported the job, and it may die at any time: killed by the
pool past a deadline, by the kernel, or by what a graph does to PyTorch.
"""

from __future__ import annotations

import gc
import socket
import sys
import traceback
from collections.abc import Mapping
from typing import NamedTuple

from service.workers import confine, frames
from service.workers.awake import Inbox
from service.workers.outbox import Outbox
from service.workers.seam import Job
from service.workers.system_calls import filter_system_calls

MAY_KEEP = 0.25
"""Part of the memory budget that a worker may keep between requests; beyond it, it is replaced."""
FREED_BLOCK = 2**20
"""Bytes of the largest freed block that is kept for the next request (`confine.keep_freed`)."""
GARBAGE = 20_000
"""Containers made and not freed since the last collection, after which the next one is due."""


class Task(NamedTuple):
    """What every worker of a fork server is given."""

    job: Job
    memory_limit_mb: int
    awake: bool
    warm_up: tuple[Mapping[str, str], bytes] | None


def run(sock: socket.socket, task: Task, parent: int) -> None:
    """Serve ``sock`` until the pool closes it."""
    confine.die_with(parent)
    confine.name("gradtrace-work")
    confine.close_descriptors(keep=sock.fileno())
    confine.drop_capabilities()
    filter_system_calls()
    if task.warm_up:
        task.job(*task.warm_up)
    confine.keep_freed(FREED_BLOCK)
    memory = confine.Memory()
    budget = task.memory_limit_mb * 2**20
    kept = memory.used() + int(budget * MAY_KEEP) if budget else sys.maxsize
    if budget:
        memory.allow(budget)
    gc.disable()  # it would interrupt requests; between them it keeps nobody waiting
    buffer = bytearray(frames.BUFFER)
    frames.send(sock, frames.encode([frames.READY]))
    outbox = Outbox(sock)
    inbox = Inbox(sock, awake=task.awake)
    while frame := _next(inbox, sock, buffer):
        if frame.head == [frames.READ]:
            outbox.read()
            continue
        _answer(outbox, task.job, frame)
        del frame
        if gc.get_count()[0] > GARBAGE:
            gc.collect()
        if memory.used() > kept and _still_above(kept, memory):
            frames.send(sock, frames.encode([frames.RETIRE]))
            kept = sys.maxsize


def _next(inbox: Inbox, sock: socket.socket, buffer: bytearray) -> frames.Frame | None:
    """Wait for a message, and only then take it.

    A process that is killed while it waits inside a receive may still take the message with it; one
    that waits like this leaves it unread, which tells the pool that the request is not to blame.
    """
    inbox.wait()
    return frames.receive(sock, buffer)


def _still_above(kept: int, memory: confine.Memory) -> bool:
    gc.collect()
    confine.trim()
    return memory.used() > kept


def _answer(outbox: Outbox, job: Job, frame: frames.Frame) -> None:
    try:
        body = frame.body()
        status, headers, data = job(frame.head, body.view())
        body.close()
        outbox.send([frames.ANSWER, status, headers], data)
    except MemoryError:
        outbox.send([frames.NO_MEMORY], b"")
    except Exception:  # noqa: BLE001  # a bug of the job's must not end the worker
        traceback.print_exc()
        outbox.send([frames.FAILED], b"")
