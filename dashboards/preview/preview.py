#!/usr/bin/env python3
"""Pictures of both boards over a fleet in trouble: `make dashboards-preview`.

Starts deploy/stack.py with faults, waits for SECONDS_SHOWN seconds (187), and lets headless Chromium draw the first
rows of the boards by Grafana's own components into docs/.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SHOWN = 187  # seconds: a round of faults and a half, up to a moment between two of them
READY = 120  # seconds until the stack is up, on a busy machine


def main():
    seconds = int(os.environ.get("SECONDS_SHOWN", SHOWN))
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state.json"
        command = [sys.executable, ROOT / "deploy/stack.py", "--faults", "--any-ports", "--state", state, *sys.argv[1:]]
        stack = subprocess.Popen(command)
        try:
            end = time.monotonic() + READY
            while not state.exists():
                if stack.poll() is not None or time.monotonic() > end:
                    sys.exit("the stack did not come up")
                time.sleep(0.2)
            found = json.loads(state.read_text())
            print(f"drawing the boards in {seconds} s", flush=True)
            time.sleep(seconds)
            # The second instance is the one that is cut off.
            instance = found["instances"][1].removeprefix("http://")
            shoot = ["node", "shoot.mjs", found["prometheus"], ROOT / "docs", str(seconds), instance]
            subprocess.run(shoot, cwd=HERE, check=True)
        finally:
            stack.terminate()
            stack.wait()


if __name__ == "__main__":
    main()
