"""Reads a board by Grafana's own model and writes it again: what is lost on the way, Grafana does not know.

python schema.py BOARD.json
"""

import json
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

# What Grafana's Prometheus plugin and its importer read, and the common model does not have.
KNOWN = {"definition", "titleFormat", "textFormat", "id"}


def lost(before, after, path=""):
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key in after:
                yield from lost(value, after[key], f"{path}.{key}")
            elif key not in KNOWN:
                yield f"{path}.{key}: {value!r} is lost"
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, pair in enumerate(zip(before, after)):
            yield from lost(*pair, f"{path}[{number}]")
    elif before != after:
        yield f"{path}: {before!r} becomes {after!r}"


register_default_plugins()
with open(sys.argv[1]) as file:
    board = json.load(file)
again = json.loads(JSONEncoder().encode(Dashboard.from_json(board)))
sys.exit("\n".join(lost(board, again)) or None)
