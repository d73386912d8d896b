"""Room for long bodies and answers: how many bytes are held at once, over all connections.

Each body has its limit, and so has the number of those that wait; but any number of clients may be
sending at the same time, or take their time to read an answer. Short ones take no room, so those
who send much keep nobody else out.
"""

from __future__ import annotations

from typing import Self

from service.contract.problem import Overloaded
from service.settings import MEGABYTE, Settings
from service.workers.body import INLINE

LEAST = 256 * MEGABYTE
"""Bytes for which there is room at least."""


class Room:
    """What is left of the bytes that may be held.

    There is room for as many bodies of the largest size as may wait and compute, and for one more
    that is on its way; where that is little, ``LEAST`` bytes. An answer that is there is never
    refused, so there may be less than nothing left: then nothing more is computed.
    """

    def __init__(self, settings: Settings) -> None:
        bodies = settings.queue + settings.workers + 1
        self.left = max(bodies * settings.max_body_bytes, LEAST)

    @property
    def full(self) -> bool:
        """Whether answers that nobody has taken yet fill it."""
        return self.left < 0

    def check(self) -> None:
        """Raise Overloaded where it is full."""
        if self.full:
            raise Overloaded("There is no room for more answers.", retry_after_s=1)


class Share:
    """What one request holds of the room, for its body or its answer: nothing after ``with``."""

    __slots__ = ("_held", "_room")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._held = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hold(0)

    def claim(self, count: int) -> None:
        """Hold ``count`` bytes of a body from now on, instead of what was held so far.

        Raises:
            Overloaded: there is no room for them.
        """
        if count > INLINE and count - self._held > max(self._room.left, 0):
            raise Overloaded("There is no room for more long bodies.", retry_after_s=1)
        self.hold(count)

    def shrink(self, count: int) -> None:
        """Hold ``count`` bytes from now on where more is held."""
        self.hold(min(count, self._held))

    def hold(self, count: int) -> None:
        """Hold ``count`` bytes from now on, whatever room there is."""
        wanted = count if count > INLINE else 0
        self._room.left -= wanted - self._held
        self._held = wanted
