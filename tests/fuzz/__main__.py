"""Hunts as long as one likes: ``python -m tests.fuzz --seconds 600 --seed 7``.

Prints every finding as a request that reproduces it; exits with 1 where one is new.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import warnings

from tests.fuzz.hunt import hunt


def main() -> int:
    """Hunt, print what was met, return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--cases", type=int, help="stop after so many cases")
    parser.add_argument("--seed", type=int, help="the same seed tries the same cases")
    parser.add_argument(
        "--check-heap", action="store_true", help="find writes out of bounds instead of reads"
    )
    parser.add_argument("--only", default="", help="words; ops whose name holds one of them")
    options = parser.parse_args()
    seed = secrets.randbelow(2**32) if options.seed is None else options.seed
    _say(f"seed {seed}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        met = hunt(
            seed,
            cases=options.cases,
            seconds=options.seconds,
            check_heap=options.check_heap,
            only=options.only,
            tell=_say,
        )
    endings = ", ".join(f"{count} {ending}" for ending, count in met.endings.most_common())
    _say(f"seed {seed}: {met.cases} cases, {met.calls} calls: {endings}")
    _say(f"{len(met.findings)} findings, {len(met.new)} of them new")
    return 1 if met.new else 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
