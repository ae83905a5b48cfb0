#!/usr/bin/env python3
"""Redis, three instances of the reference service, a load on them, and Prometheus, as plain processes.

`make stack` builds the service and runs this. Ctrl-C stops everything, by process id.
Variables UNSTALE_* reach the instances: UNSTALE_TTL=5s make stack.
With --faults an instance is cut off, the packets of another are swallowed, Redis is killed and started
again, and an instance crashes, again and again; the boards show it.
With --relay the rows are in a PostgreSQL of its own, and `unstale relay` reads its log: a change by SQL is
invalidated on every instance.
"""

import argparse
import asyncio
import json
import os
import random
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import postgres

ROOT = Path(__file__).resolve().parent.parent

# The usual ports; a free one replaces a port that is in use.
REDIS, PROMETHEUS, FIRST_INSTANCE = 6390, 9090, 8081
POSTGRES, RELAY = 5433, 9101
INSTANCES = 3

# Entries expire within a first look, and one hit in twenty is compared with the database.
TUNING = {"UNSTALE_NAMESPACE": "stack", "UNSTALE_TTL": "20s", "UNSTALE_CAPACITY": "2000", "UNSTALE_AUDIT": "0.05"}

READY = 30  # seconds that a process may take to answer, on a busy machine
STOP = 10  # seconds that a process may take to end when it is asked to; a clean shutdown drains for 5 s


class Failed(Exception):
    """A process did not start, or ended by itself."""


def free_ports(preferred):
    """A port for each: the preferred one, or else one below those that the kernel gives to clients."""
    probes = []
    try:
        for first in preferred:
            candidates = random.sample(range(15_000, 32_000), 50)
            probes.append(next(filter(None, map(probe, [first, *candidates] if first else candidates)), None))
            if probes[-1] is None:
                raise Failed("no free port")
        return [held.getsockname()[1] for held in probes]
    finally:
        # All stay open until all are found, so that none is found twice.
        for held in filter(None, probes):
            held.close()


def probe(port):
    """A socket on this port, or None."""
    held = socket.socket()
    # Connections of a server that has just ended linger, and do not matter.
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind(("127.0.0.1", port))
    except OSError:
        held.close()
        return None
    return held


def program(names, folder=None):
    for name in names:
        found = shutil.which(name, path=folder)
        if found:
            return found
    raise Failed(f"{' or '.join(names)} is not installed: `scripts/install.sh redis-server prometheus`")


class Process:
    """A child process that can be started again; its output goes to a file."""

    def __init__(self, name, command, log, env=None, end=signal.SIGTERM):
        self.name, self.command, self.log, self.env, self.end = name, command, log, env, end
        self.child = None
        self.expected = False  # to be gone

    async def start(self):
        with open(self.log, "ab") as log:
            # A group of its own: Ctrl-C reaches this script alone, which then ends all in order.
            self.child = await asyncio.create_subprocess_exec(
                *self.command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=self.env,
                start_new_session=True,
            )
        self.expected = False

    def send(self, number):
        if self.child and self.child.returncode is None:
            self.child.send_signal(number)

    async def kill(self):
        self.expected = True
        self.send(signal.SIGKILL)
        await self.child.wait()

    async def stop(self):
        if self.child is None:
            return
        self.expected = True
        self.send(signal.SIGCONT)
        self.send(self.end)
        try:
            await asyncio.wait_for(self.child.wait(), STOP)
        except asyncio.TimeoutError:
            await self.kill()

    def gone(self):
        return self.child is not None and self.child.returncode is not None and not self.expected

    async def ready(self, answers):
        end = time.monotonic() + READY
        while not await asyncio.to_thread(answers):
            if self.gone():
                raise Failed(f"{self.name} ended:\n{tail(self.log)}")
            if time.monotonic() > end:
                raise Failed(f"{self.name} does not answer:\n{tail(self.log)}")
            await asyncio.sleep(0.1)


def tail(path, lines=15):
    return "\n".join(Path(path).read_text(errors="replace").splitlines()[-lines:])


def answers_http(url):
    def ask():
        try:
            with urllib.request.urlopen(url, timeout=2) as reply:
                return reply.status == 200
        except (urllib.error.URLError, OSError):
            return False

    return ask


def answers_ping(port):
    def ask():
        try:
            with socket.create_connection(("127.0.0.1", port), 2) as connection:
                connection.sendall(b"PING\r\n")
                # "-NOAUTH" is an answer, too.
                return connection.recv(7) in (b"+PONG\r\n", b"-NOAUTH")
        except OSError:
            return False

    return ask


def says(log, text):
    return lambda: text in Path(log).read_text(errors="replace")


class Way:
    """The connections of an instance to Redis, which can be refused, or swallow everything."""

    def __init__(self, upstream):
        self.upstream, self.open, self.hole = upstream, True, False
        self.server, self.writers = None, set()

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1]

    async def serve(self, reader, writer):
        if not self.open:
            return writer.close()
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            return writer.close()
        self.writers |= {writer, far_writer}
        await asyncio.gather(self.pipe(reader, far_writer), self.pipe(far_reader, writer))
        self.writers -= {writer, far_writer}

    async def pipe(self, reader, writer):
        lost = False
        try:
            while data := await reader.read(65_536):
                lost = lost or self.hole
                # TCP never delivers what comes after a hole.
                if lost and not self.hole:
                    break
                if not lost:
                    writer.write(data)
                    await writer.drain()
        except OSError:
            pass
        writer.close()

    def cut(self):
        for writer in self.writers:
            writer.transport.abort()


class Stack:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.redis, self.instances, self.load, self.prometheus = None, [], None, None
        self.ways, self.ports = [], []
        self.postgres, self.database, self.relay = None, None, None

    def processes(self):
        # In the order in which they end: clients before their servers.
        all_of_them = (self.load, *self.instances, self.relay, self.prometheus, self.redis, self.database)
        return [p for p in all_of_them if p]

    def make(self, name, *command, env=None, end=signal.SIGTERM):
        return Process(name, [str(part) for part in command], self.folder / f"{name}.log", env, end)

    async def start_database(self, port):
        self.postgres = postgres.Postgres(port)
        await asyncio.to_thread(self.postgres.prepare)
        self.database = self.make("postgres", *self.postgres.command(), end=postgres.END)
        await self.database.start()
        await self.database.ready(self.postgres.answers)
        await asyncio.to_thread(self.postgres.make_database)

    async def start_relay(self, port, redis):
        """Once the table is there, which the publication names."""
        command = [self.options.unstale, "relay", "--rules", postgres.RULES]
        await asyncio.to_thread(self.postgres.make_relay, command)
        env = {
            **TUNING, **os.environ, "UNSTALE_REDIS_URL": redis, "UNSTALE_METRICS_ADDR": f"127.0.0.1:{port}",
            "UNSTALE_RELAY_DATABASE_URL": self.postgres.url("unstale_relay"),
        }
        self.relay = self.make("relay", *command, env=env)
        await self.relay.start()
        await self.relay.ready(says(self.relay.log, "relaying accounts"))

    async def start(self):
        options = self.options
        redis_bin = os.environ.get("REDIS_SERVER_BIN") or program(["redis-server", "valkey-server"])
        prometheus_bin = program(["prometheus"], os.environ.get("PROMETHEUS_BIN"))
        wanted = [REDIS, PROMETHEUS, POSTGRES, RELAY, *range(FIRST_INSTANCE, FIRST_INSTANCE + INSTANCES)]
        redis_port, prometheus_port, postgres_port, relay_port, *ports = free_ports(
            [None] * len(wanted) if options.any_ports else wanted)
        # In a file: other users of this machine may read command lines.
        password = secrets.token_hex(16)
        config = self.folder / "redis.conf"
        config.touch(0o600)
        config.write_text(f"requirepass {password}\n")
        self.redis = self.make(
            "redis", redis_bin, config, "--port", redis_port, "--bind", "127.0.0.1", "--save", "", "--appendonly",
            "no", "--dir", self.folder,
        )
        await self.redis.start()
        await self.redis.ready(answers_ping(redis_port))
        database = ["--database", self.folder / "accounts.db"]
        variables = {}
        if options.relay:
            await self.start_database(postgres_port)
            # The URL has a password in it.
            database, variables = ["--source", "accounts"], {"DATABASE_URL": self.postgres.url("accounts")}
        for number, port in enumerate(ports):
            upstream = redis_port
            if options.faults:
                self.ways.append(Way(redis_port))
                upstream = await self.ways[-1].start()
            redis = f"redis://:{password}@127.0.0.1:{upstream}"
            env = {**TUNING, **os.environ, **variables, "UNSTALE_REDIS_URL": redis}
            instance = self.make(
                f"instance-{number + 1}", options.accounts, "--listen", f"127.0.0.1:{port}", *database, env=env,
            )
            self.instances.append(instance)
            self.ports.append(port)
            # One after the other: the first creates the database's tables.
            await instance.start()
            await instance.ready(answers_http(f"http://127.0.0.1:{port}/readyz"))
        redis = f"redis://:{password}@127.0.0.1:{redis_port}"
        scraped = {"accounts": [f"127.0.0.1:{port}" for port in self.ports]}
        if options.relay:
            await self.start_relay(relay_port, redis)
            scraped["relay"] = [f"127.0.0.1:{relay_port}"]
        targets = [f"http://127.0.0.1:{port}" for port in self.ports]
        loads = [part for target in targets for part in ("--load", target)]
        self.load = self.make("load", options.accounts, *loads, "--rate", options.rate)
        await self.load.start()
        (self.folder / "prometheus.yml").write_text(json.dumps({  # JSON is YAML
            "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "5s"},
            "rule_files": [str(ROOT / "dashboards/alerts.yml")],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": places}]} for job, places in scraped.items()
            ],
        }))
        self.prometheus = self.make(
            "prometheus", prometheus_bin, f"--config.file={self.folder}/prometheus.yml",
            f"--storage.tsdb.path={self.folder}/data", f"--web.listen-address=127.0.0.1:{prometheus_port}",
        )
        await self.prometheus.start()
        url = f"http://127.0.0.1:{prometheus_port}"
        await self.prometheus.ready(answers_http(f"{url}/-/ready"))
        return url, targets, redis

    async def watch(self):
        """Ends when a process has ended by itself."""
        while True:
            await asyncio.sleep(0.5)
            for process in self.processes():
                if process.gone():
                    raise Failed(f"{process.name} ended by itself:\n{tail(process.log)}")

    async def faults(self):
        while True:
            await asyncio.sleep(25)
            say("instance 2 is cut off from Redis for 10 s")
            self.ways[1].open = False
            self.ways[1].cut()
            await asyncio.sleep(10)
            self.ways[1].open = True
            await asyncio.sleep(20)
            say("instance 3 is in a black hole for 8 s")
            self.ways[2].hole = True
            await asyncio.sleep(8)
            self.ways[2].hole = False
            await asyncio.sleep(20)
            say("Redis is killed, and started again after 5 s")
            await self.redis.kill()
            await asyncio.sleep(5)
            await self.redis.start()
            await asyncio.sleep(25)
            say("instance 1 crashes, and is started again after 6 s")
            await self.instances[0].kill()
            await asyncio.sleep(6)
            await self.instances[0].start()
            if self.relay:
                await asyncio.sleep(25)
                say("the relay is killed, and started again after 10 s")
                await self.relay.kill()
                await asyncio.sleep(10)
                await self.relay.start()

    async def stop(self):
        for process in self.processes():
            await process.stop()
        if self.postgres:
            self.postgres.remove()


def say(text):
    print(text, flush=True)


def tell(url, targets, redis, sql):
    say(f"Prometheus   {url}/graph and {url}/alerts")
    for number, target in enumerate(targets):
        say(f"instance {number + 1}   {target}/healthz, {target}/metrics, {target}/accounts/1")
    metrics = " ".join(f"--metrics {target}/metrics" for target in targets)
    say(f"Redis        {redis}; UNSTALE_REDIS_URL={redis} UNSTALE_NAMESPACE=stack unstale status {metrics}")
    if sql:
        say(f"past them    {sql['change']}")
        say(f"seen here    {sql['show']}")
    say("Boards       import dashboards/*.json into a Grafana with that Prometheus, or `make dashboards-preview`")
    say("Ctrl-C stops everything.")


async def run(options):
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # SIGHUP: the terminal is closed. `nohup` ignores it on purpose. A shell ignores SIGINT for what it starts in the
    # background, which is no wish of the user.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            loop.add_signal_handler(number, stop.set)
    with tempfile.TemporaryDirectory(prefix="unstale-stack-") as folder:
        stack = Stack(options, Path(folder))
        waiting = [asyncio.create_task(stop.wait())]
        try:
            starting = asyncio.create_task(stack.start())
            await asyncio.wait([starting, *waiting], return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                return
            url, targets, redis = starting.result()
            sql = {}
            if options.relay:
                sql = {"change": stack.postgres.change(), "show": postgres.show(stack.ports)}
            if options.state:
                pids = [process.child.pid for process in stack.processes()]
                state = {"prometheus": url, "instances": targets, "redis": redis, "pids": pids, **sql}
                # A reader finds the whole file, or none.
                half = Path(f"{options.state}.half")
                half.write_text(json.dumps(state))
                half.rename(options.state)
            tell(url, targets, redis, sql)
            waiting += [asyncio.create_task(stack.watch())]
            if options.faults:
                waiting += [asyncio.create_task(stack.faults())]
            done, going = await asyncio.wait(
                waiting, timeout=options.seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in going:
                task.cancel()
            for task in done:
                task.result()
        finally:
            await stack.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", default=ROOT / "target/release/examples/accounts", type=Path,
                        help="the reference service [default: as cargo build --release --example accounts makes it]")
    parser.add_argument("--rate", type=int, default=400, help="requests a second [default: 400]")
    parser.add_argument("--faults", action="store_true", help="with faults, one after the other")
    parser.add_argument("--relay", action="store_true", help="rows in PostgreSQL, whose log `unstale relay` reads")
    parser.add_argument("--unstale", default=ROOT / "target/release/unstale", type=Path,
                        help="the program [default: as cargo build --release --features relay --bin unstale makes it]")
    parser.add_argument("--seconds", type=float, help="stop after this time")
    parser.add_argument("--any-ports", action="store_true", help="do not try the usual ports first")
    parser.add_argument("--state", help="a file to write addresses and process ids to, as JSON")
    options = parser.parse_args()
    if not options.accounts.is_file():
        sys.exit(f"{options.accounts} is missing: cargo build --release --example accounts")
    if options.relay and not options.unstale.is_file():
        sys.exit(f"{options.unstale} is missing: cargo build --release --features relay --bin unstale")
    try:
        asyncio.run(run(options))
    except (Failed, postgres.Failed) as failure:
        sys.exit(f"stack: {failure}")
    except BrokenPipeError:
        # The reader has gone, as in `make stack | head`. Without this Python would report an error when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
