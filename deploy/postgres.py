"""The PostgreSQL of the stack, with the log that a relay reads: for `make stack FLAGS=--relay`."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

RULES = Path(__file__).resolve().parent / "kubernetes/components/relay/rules.toml"

# Debian has the programs outside PATH, in a folder for each version.
VERSIONS = Path("/usr/lib/postgresql")

SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = '{folder}'
wal_level = logical
# The data is gone when the stack ends.
fsync = off
"""

# The superuser has no password, and may use only the socket, whose folder is closed to other users.
HBA = """
local all postgres                trust
host  all all      127.0.0.1/32 scram-sha-256
"""


class Failed(Exception):
    """A program of PostgreSQL failed."""


class Postgres:
    """Its folder, its two logins, and SQL by psql; the process itself is the stack's."""

    def __init__(self, port):
        self.port = port
        self.passwords = {role: secrets.token_hex(16) for role in ("accounts", "unstale_relay")}
        # A folder of its own: the server's user may not see the folder of the stack.
        self.holder = tempfile.TemporaryDirectory(prefix="unstale-postgres-")
        self.folder = Path(self.holder.name)
        give(self.folder)

    def prepare(self):
        """Makes an empty server."""
        data = self.folder / "data"
        run(as_server(binary("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"))
        with open(data / "postgresql.conf", "a") as settings:
            settings.write(SETTINGS.format(folder=self.folder))
        (data / "pg_hba.conf").write_text(HBA)

    def command(self):
        return as_server(binary("postgres"), "-D", self.folder / "data", "-p", self.port)

    def answers(self):
        try:
            self.sql("SELECT 1", "postgres")
        except Failed:
            return False
        return True

    def sql(self, text, database="accounts"):
        """Runs statements as the superuser."""
        run([binary("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", self.folder, "-p", self.port, "-U", "postgres",
             "-d", database], text)

    def make_database(self):
        self.sql(f"CREATE ROLE accounts LOGIN PASSWORD '{self.passwords['accounts']}'", "postgres")
        self.sql("CREATE DATABASE accounts OWNER accounts", "postgres")

    def make_relay(self, relay):
        """Makes publication, role and functions, as `--print-sql` has them, and a row that no load changes."""
        superuser = f"postgres://postgres@/accounts?host={self.folder}&port={self.port}"
        self.sql(run([*relay, "--print-sql"], env={"UNSTALE_RELAY_DATABASE_URL": superuser}))
        self.sql(f"ALTER ROLE unstale_relay PASSWORD '{self.passwords['unstale_relay']}'")
        self.sql(f"INSERT INTO accounts (id, name, balance, version) VALUES ({ROW}, 'Ada', 100, 1)")

    def url(self, role):
        return f"postgres://{role}:{self.passwords[role]}@127.0.0.1:{self.port}/accounts"

    def change(self):
        """The command that changes a row past the service."""
        psql = "psql" if shutil.which("psql") else binary("psql")
        update = f"UPDATE accounts SET balance = balance + 1 WHERE id = {ROW}"
        return f'{psql} {self.url("accounts")} -c "{update}"'

    def remove(self):
        self.holder.cleanup()


# The accounts of the load have smaller numbers.
ROW = 2000

# Connections are ended rather than waited for.
END = signal.SIGINT


def show(ports):
    """The command that shows that row on every instance."""
    return f"for port in {' '.join(map(str, ports))}; do curl -s 127.0.0.1:$port/accounts/{ROW}; echo; done"


def binary(name):
    given = os.environ.get("POSTGRES_BIN")
    if given:
        folders = [Path(given)]
    else:
        versions = [folder for folder in VERSIONS.glob("*/bin") if folder.parent.name.isdigit()]
        folders = sorted(versions, key=lambda folder: -int(folder.parent.name))
    for folder in folders:
        if (folder / "postgres").is_file() and (folder / name).is_file():
            return folder / name
    found = None if given else shutil.which(name)
    if not found:
        raise Failed(f"PostgreSQL's {name} is not installed: `scripts/install.sh postgresql`, or set POSTGRES_BIN")
    return found


def owner():
    """The user of the server if this is root, as which the server refuses to run; or else none."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        raise Failed("PostgreSQL refuses to run as root, and there is no user postgres") from None


def give(folder):
    user = owner()
    if user:
        os.chown(folder, user.pw_uid, user.pw_gid)


def as_server(*command):
    user = owner()
    if not user:
        return list(command)
    # That user may not be allowed to see the present folder.
    user = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return ["setpriv", *user, "env", "--chdir=/", *command]


def run(command, text="", env=None):
    """Runs a program that must succeed, without the variables PG... of the environment."""
    rest = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    ran = subprocess.run(
        list(map(str, command)), input=text, capture_output=True, text=True, env={**rest, **(env or {})})
    if ran.returncode != 0:
        raise Failed(f"{Path(command[0]).name}: {ran.stderr.strip()}")
    return ran.stdout
