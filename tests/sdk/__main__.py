"""``make sdk``: the generators, then a client for each language whose programs are here."""

from __future__ import annotations

import shutil
import sys

from tests.sdk.generate import LANGUAGES, ROOT, Failed, install_tools, make


def main() -> int:
    """Make all clients; return 1 where one failed."""
    failed = 0
    try:
        install_tools()
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    for name, language in LANGUAGES.items():
        absent = [program for program in language.programs if shutil.which(program) is None]
        if absent:
            print(f"{name}: left out, {' and '.join(absent)} not on this machine")
            continue
        try:
            print(f"{name}: {make(name).relative_to(ROOT)}")
        except Failed as error:
            failed = 1
            print(f"{name}: failed\n{error}", file=sys.stderr)
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
