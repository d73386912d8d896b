"""``make bench``: every figure, a line each, with its goal."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from bench import engine, growth, http, pool
from bench.harness import Figure

PARTS = {
    "engine": engine.figures,
    "http": http.figures,
    "pool": pool.figures,
    "growth": growth.figures,
}


def figures(names: list[str]) -> Iterator[Figure]:
    for name in names or PARTS:
        yield from PARTS[name]()


def main() -> None:
    """Print the table; name parts (engine, http, pool, growth) to run only those."""
    print(f"{'what':48} {'ratio':>8} {'goal':>8} {'ours us':>12} {'plain us':>12}")
    for figure in figures(sys.argv[1:]):
        sign = ">=" if figure.higher else "<="
        verdict = "" if figure.met else "  not met"
        print(
            f"{figure.what:48} {figure.ratio:8.2f} {sign}{figure.goal:6.4g} "
            f"{figure.ours_us:12.1f} {figure.plain_us:12.1f}{verdict}",
            flush=True,
        )


if __name__ == "__main__":
    main()
