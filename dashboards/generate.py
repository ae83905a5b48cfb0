#!/usr/bin/env python3
"""Writes overview.json, incident.json, and alerts.yml as Kubernetes wants it, after a change of the boards or
alerts.yml: `python3 dashboards/generate.py`.

`--check` only compares, for the tests. Needs nothing but Python.
"""

import json
import sys
from pathlib import Path

from incident import incident
from overview import overview

HERE = Path(__file__).resolve().parent
RULE = HERE.parent / "deploy/kubernetes/base/prometheusrule.yaml"

RULE_HEAD = """\
# The rules of dashboards/alerts.yml, written by dashboards/generate.py.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: unstale
  labels:
    app.kubernetes.io/name: accounts
spec:
"""


def files():
    """What is written: a path and its text each."""
    for board in (overview(), incident()):
        path = HERE / (board["uid"].removeprefix("unstale-") + ".json")
        yield path, json.dumps(board, indent=2) + "\n"
    rules = (HERE / "alerts.yml").read_text()
    lines = rules[rules.index("groups:"):].splitlines()
    yield RULE, RULE_HEAD + "".join(f"  {line}".rstrip() + "\n" for line in lines)


def main():
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit(__doc__)
    stale = []
    for path, text in files():
        if not check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(path.name)
    if stale:
        sys.exit(f"not what generate.py writes: {', '.join(stale)}")


if __name__ == "__main__":
    main()
