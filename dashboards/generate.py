#!/usr/bin/env python3
"""Writes overview.json and incident.json: `python3 dashboards/generate.py`, after a change of boards.py.

`--check` only compares, for the tests. Needs nothing but Python.
"""

import json
import sys
from pathlib import Path

from boards import incident, overview

HERE = Path(__file__).resolve().parent


def main():
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit(__doc__)
    stale = []
    for board in (overview(), incident()):
        path = HERE / (board["uid"].removeprefix("unstale-") + ".json")
        text = json.dumps(board, indent=2) + "\n"
        if not check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(path.name)
    if stale:
        sys.exit(f"not what generate.py writes: {', '.join(stale)}")


if __name__ == "__main__":
    main()
