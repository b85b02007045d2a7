"""What `orrery check` and `/health/ready` say in each state: the table of docs/operate.md, tried line by line. Words in backticks have to be said; `down: x`
and `degraded: x` are lists of the answer."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from conftest import ROOT
from installation import MailServer, Postgres, Process, Rabbitmq, free_port, until
from test_alerting import binary


def rows() -> dict[str, tuple[str, str, str]]:
    """The table, by what keeps the line: the state, what check says, what health says."""
    text = (ROOT / "docs" / "operate.md").read_text()
    table = text.split("| state | `orrery check` | `/health/ready` | kept by |\n", 1)[1].split("\n\n", 1)[0]
    found = {}
    for line in table.splitlines()[1:]:
        state, check, health, kept = (cell.strip() for cell in line.strip("|").split(" | "))
        found[kept.strip("`")] = (state, check, health)
    return found


ROWS = rows()
HERE = {name: row for name, row in ROWS.items() if "::" not in name}
ELSEWHERE = [name for name in ROWS if "::" in name]


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


class Servers:
    """PostgreSQL with a standby, RabbitMQ, S3, a mail server; a database and a virtual host that no process uses but those of a state."""

    def __init__(self, program: Path, folder: Path):
        self.binary, self.folder = str(program), folder
        self.mail = MailServer()
        storage = free_port()
        self.closed = free_port()
        self.postgres = Postgres("states", folder)
        self.rabbitmq = Rabbitmq("states", folder)
        self.processes = [self.postgres.process]
        self.postgres.ask("create database orrery")
        self.postgres.ask("create database blank")
        key = lambda: base64.b64encode(os.urandom(32)).decode()  # noqa: E731
        self.settings = {
            "PATH": os.environ["PATH"], "ORRERY_SERVICES": "autha,maily,spinoza,gateway", "ORRERY_DATABASE__URL": self.postgres.url(),
            "ORRERY_BROKER__URL": f"amqp://guest:guest@127.0.0.1:{self.rabbitmq.port}/%2f", "ORRERY_BROKER__MANAGEMENT_URL": f"http://guest:guest@127.0.0.1:{self.rabbitmq.management}",
            "ORRERY_AUTHA__PUBLIC_URL": "http://accounts.example", "ORRERY_MAILY__TRANSPORT": "smtp", "ORRERY_MAILY__SMTP__HOST": "127.0.0.1",
            "ORRERY_MAILY__SMTP__PORT": str(self.mail.port), "ORRERY_MAILY__SMTP__TLS": "none", "ORRERY_STORAGE__ENDPOINT": f"http://127.0.0.1:{storage}",
            "ORRERY_STORAGE__BUCKET": "orrery", "ORRERY_STORAGE__ACCESS_KEY": "states", "ORRERY_STORAGE__SECRET_KEY": "secret of states",
            "ORRERY_KEYS__MASTER": key(), "ORRERY_KEYS__MAIL": key(),
        }
        self.processes.append(Process("s3", [self.binary, "s3", "--listen", f"127.0.0.1:{storage}", "--root", str(folder / "s3")], folder, self.settings))
        self.rabbitmq.await_ready()
        migrated = self.run("migrate", {})
        assert migrated.returncode == 0, migrated.stdout + migrated.stderr
        # Whoever comes first seals a known text under its keys; a state with others comes later.
        self.serving({}, ["serve"], lambda ask, _: until(60, "all is ready", lambda: ask()[0] == 200))

    def run(self, command: str, changed: dict[str, str]) -> subprocess.CompletedProcess:
        return subprocess.run([self.binary, command], env={**self.settings, **changed}, capture_output=True, text=True, timeout=90)

    def serving(self, changed: dict[str, str], command: list[str], look) -> None:
        """Has a process in that state, and looks at it: `look` gets a function that asks for its health, and the process with its gateway's port."""
        internal, autha, gateway = (free_port() for _ in range(3))
        ports = {
            "ORRERY_INTERNAL__LISTEN": f"127.0.0.1:{internal}", "ORRERY_AUTHA__LISTEN": f"127.0.0.1:{autha}", "ORRERY_GATEWAY__LISTEN": f"127.0.0.1:{gateway}",
            "ORRERY_GATEWAY__AUTHA": f"http://127.0.0.1:{autha}",
        }
        process = Process("serve", [self.binary, *command], self.folder, {**self.settings, **ports, **changed})

        def ask() -> tuple[int, dict]:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{internal}/health/ready", timeout=10) as answer:
                    return answer.status, json.loads(answer.read())
            except urllib.error.HTTPError as error:
                return error.code, json.loads(error.read())

        try:
            look(ask, (process, gateway))
        finally:
            process.kill()

    def end(self) -> None:
        for process in reversed(self.processes):
            process.kill()
        self.rabbitmq.kill()
        self.mail.shutdown()


@pytest.fixture(scope="module")
def servers():
    program = binary()
    folder = Path(tempfile.mkdtemp(prefix="orrery-states.", dir="/var/tmp"))
    folder.chmod(0o711)
    made = None
    try:
        made = Servers(program, folder)
        yield made
    finally:
        if made:
            made.end()
        shutil.rmtree(folder, ignore_errors=True)


def random_key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


# What is changed for a state, by the name in the table's last column; the command where it is not `serve`.
STATES = {
    "well": lambda servers: {},
    "setting": lambda servers: {"ORRERY_AUTHA__PASSWORD_SCORE": "9"},
    "blank": lambda servers: {"ORRERY_DATABASE__URL": servers.postgres.url("blank")},
    "postgresql_away": lambda servers: {"ORRERY_DATABASE__URL": f"postgres://orrery@127.0.0.1:{servers.closed}/orrery"},
    "database_missing": lambda servers: {"ORRERY_DATABASE__URL": servers.postgres.url("nowhere")},
    "no_slot": lambda servers: {"ORRERY_DATABASE__URL": no_slot(servers)},
    "standby": lambda servers: {"ORRERY_DATABASE__URL": standby(servers)},
    "read_only": lambda servers: {"ORRERY_DATABASE__URL": read_only(servers)},
    "disk_full": lambda servers: {"ORRERY_DATABASE__URL": disk_full(servers)},
    "master_key": lambda servers: {"ORRERY_KEYS__MASTER": random_key()},
    "mail_key": lambda servers: {"ORRERY_KEYS__MAIL": random_key()},
    "broker_away": lambda servers: {"ORRERY_BROKER__URL": f"amqp://guest:guest@127.0.0.1:{servers.closed}/%2f"},
    "broker_away_from_maily": lambda servers: {"ORRERY_BROKER__URL": f"amqp://guest:guest@127.0.0.1:{servers.closed}/%2f"},
    "broker_password": lambda servers: {"ORRERY_BROKER__URL": f"amqp://guest:wrong@127.0.0.1:{servers.rabbitmq.port}/%2f"},
    "broker_vhost": lambda servers: {"ORRERY_BROKER__URL": f"amqp://guest:guest@127.0.0.1:{servers.rabbitmq.port}/nowhere"},
    "queue_missing": lambda servers: {"ORRERY_MAILY__RETRY_DELAY": "7s"},
    "management_away": lambda servers: {"ORRERY_BROKER__MANAGEMENT_URL": f"http://guest:guest@127.0.0.1:{servers.closed}"},
    "storage_away": lambda servers: {"ORRERY_STORAGE__ENDPOINT": f"http://127.0.0.1:{servers.closed}"},
    "bucket_missing": lambda servers: {"ORRERY_STORAGE__BUCKET": "another"},
    "storage_key": lambda servers: {"ORRERY_STORAGE__SECRET_KEY": "wrong"},
    "mail_away": lambda servers: {"ORRERY_MAILY__SMTP__PORT": str(servers.closed)},
    "mail_without_tls": lambda servers: {"ORRERY_MAILY__SMTP__TLS": "starttls"},
    "autha_away": lambda servers: {"ORRERY_GATEWAY__AUTHA": f"http://127.0.0.1:{servers.closed}"},
}
COMMANDS = {"broker_away_from_maily": ["serve", "maily"], "autha_away": ["serve", "gateway"]}
# Where the line speaks of another configuration than the process has.
CHECKED = {"autha_away": {"ORRERY_SERVICES": "gateway"}}
# Health is well until somebody's mail is to go out.
WITH_A_MAIL = {"mail_away", "mail_without_tls"}


def no_slot(servers: Servers) -> str:
    servers.postgres.ask("create role few login connection limit 0 in role orrery_autha, orrery_maily, orrery_spinoza")
    return f"postgres://few@127.0.0.1:{servers.postgres.port}/orrery"


def copy(servers: Servers, name: str) -> None:
    """A database like the first, once the process before has left that."""
    servers.postgres.ask("select pg_terminate_backend(pid) from pg_stat_activity where datname = 'orrery'")
    until(30, "nobody is in the database", lambda: servers.postgres.ask("select count(*) from pg_stat_activity where datname = 'orrery'") == "0")
    servers.postgres.ask(f"create database {name} template orrery")


def read_only(servers: Servers) -> str:
    copy(servers, "stuck")
    servers.postgres.ask("alter database stuck set default_transaction_read_only = on")
    return servers.postgres.url("stuck")


def disk_full(servers: Servers) -> str:
    """Every write is answered as one that finds no room."""
    copy(servers, "crowded")
    servers.postgres.ask("create function bus.full() returns trigger language plpgsql as $$ begin raise exception 'no space left on device' using errcode = '53100'; end $$", "crowded")
    for table in ("inbox", "outbox"):
        servers.postgres.ask(f"create trigger no_room before insert or update on bus.{table} for each row execute function bus.full()", "crowded")
    return servers.postgres.url("crowded")


def standby(servers: Servers) -> str:
    other = Postgres("standby", servers.folder, standby_of=servers.postgres.port)
    servers.processes.append(other.process)
    return other.url()


def sign_up(gateway: int) -> None:
    person = {"id": f"p_{os.urandom(8).hex()}", "email": f"m_{os.urandom(8).hex()}@people.example", "password": f"Tr-{os.urandom(16).hex()}", "locale": "en"}
    request = urllib.request.Request(f"http://127.0.0.1:{gateway}/create", json.dumps(person).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 201


def says(health: tuple[int, dict], status: int, wanted: list[str]) -> bool:
    code, body = health
    told = json.dumps(body, ensure_ascii=False)
    for each in wanted:
        kind, _, name = each.partition(": ")
        if kind in ("down", "degraded"):
            if name not in body.get(kind, []):
                return False
        elif each not in told:
            return False
    return code == status


@pytest.mark.parametrize("name", HERE)
def test_check_and_health_say_what_the_table_says(name: str, servers: Servers) -> None:
    state, check, health = HERE[name]
    changed = STATES[name](servers)
    checked = servers.run("check", changed | CHECKED.get(name, {}))
    told = checked.stdout + checked.stderr
    assert (checked.returncode == 0) == check.startswith("ok"), f"{state}: {told}"
    for each in words(check):
        assert each in told, f"{state}: check does not say '{each}': {told}"

    def look(ask, running) -> None:
        process, gateway = running
        if health.startswith("no answer"):
            process.child.wait(30)
            assert all(each in process.tail() for each in words(check)), process.tail()
            return
        stages = [(int(status), words(rest)) for status, rest in re.findall(r"\b(200|503)\b((?:(?!\b(?:200|503)\b).)*)", ROWS["mail_away"][2] if health == "as above" else health)]
        last: list = []

        def holds(status: int, wanted: list[str]) -> bool:
            last[:] = [ask()]
            return says(last[0], status, wanted)

        for number, (status, wanted) in enumerate(stages):
            if number and name in WITH_A_MAIL:
                sign_up(gateway)
            try:
                until(60, state, lambda: holds(status, wanted))
            except AssertionError as error:
                raise AssertionError(f"{error}: wanted {status} {wanted}, said {last}\n{process.tail()}") from error

    servers.serving(changed, COMMANDS.get(name, ["serve"]), look)


def test_every_state_here_is_a_line_of_the_table() -> None:
    assert STATES.keys() == HERE.keys()


@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_other_lines_are_kept_by_tests_that_are_there(name: str) -> None:
    file, test = name.split("::")
    assert f"async fn {test}()" in (ROOT / "tests" / "tests" / "system" / f"{file}.rs").read_text()
