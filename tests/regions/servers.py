"""PostgreSQL with a standby, RabbitMQ, and any process of a test's own; each ends with the test, whatever ends that."""

from __future__ import annotations

import base64
import glob
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path
from typing import Callable


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(seconds: float, what: str, condition: Callable[[], object]) -> object:
    """Waits until the condition holds, and gives what it gave."""
    end = time.monotonic() + seconds
    while True:
        try:
            held = condition()
        except (OSError, subprocess.SubprocessError):
            held = None
        if held:
            return held
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.05)


class Process:
    """A process in a session of its own, which the kernel ends with us."""

    def __init__(self, name: str, command: list[str], folder: Path, environment: dict[str, str] | None = None, user: str | None = None):
        self.name, self.log = name, folder / f"{name}.log"
        launch = ["setpriv", "--pdeathsig", "KILL"]
        if user and os.geteuid() == 0:
            launch += ["--reuid", user, "--regid", user, "--init-groups"]
        settings = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **(environment or {})}
        with self.log.open("ab") as log:
            self.child = subprocess.Popen([*launch, *command], env=settings, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def kill(self) -> None:
        """At once, with all that it started."""
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.child.wait(10)

    def end(self, stop: signal.Signals = signal.SIGTERM, seconds: float = 60) -> None:
        """By its own way out, to its end."""
        self.child.send_signal(stop)
        self.child.wait(seconds)

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-25:])


class Link:
    """A TCP proxy to a port, which can be cut: from then on not one byte passes, as between regions when the line is gone."""

    def __init__(self, target: int):
        self.target, self.port, self.open = target, free_port(), True
        self.sockets: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                here, _ = self.listener.accept()
            except OSError:
                return
            if not self.open:
                here.close()
                continue
            try:
                there = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                here.close()
                continue
            self.sockets += [here, there]
            for source, sink in ((here, there), (there, here)):
                threading.Thread(target=self.carry, args=(source, sink), daemon=True).start()

    def carry(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while self.open and (data := source.recv(65536)):
                if self.open:
                    sink.sendall(data)
        except OSError:
            pass
        for each in (source, sink):
            each.close()

    def cut(self) -> None:
        self.open = False
        for each in (self.listener, *self.sockets):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            each.close()


def postgres_bin() -> Path:
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[-2]))
    if not found:
        raise SystemExit("PostgreSQL is missing: apt-get install postgresql")
    return Path(found[-1])


class Postgres:
    """A server in a folder of its own; `standby_of` makes it one that follows another."""

    USER = "postgres"

    def __init__(self, name: str, folder: Path, standby_of: int | None = None):
        self.name, self.bin, self.port = name, postgres_bin(), free_port()
        self.folder, self.data = folder, folder / f"postgres-{name}"
        self.make_folder()
        if standby_of is None:
            self.run("initdb", "-D", str(self.data), "-U", "orrery", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
        else:
            self.copy(standby_of)
        self.process = self.launch()
        self.await_ready()

    def make_folder(self) -> None:
        self.data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            entry = pwd.getpwnam(self.USER)
            os.chown(self.data, entry.pw_uid, entry.pw_gid)

    def copy(self, port: int) -> None:
        """Takes over the data of the server at a port, to follow it."""
        self.run("pg_basebackup", "-D", str(self.data), "-d", f"host=127.0.0.1 port={port} user=orrery application_name={self.name}", "-R", "-X", "stream", "-c", "fast")

    def launch(self) -> Process:
        # Nothing has to outlive the machine: what is killed is the process, whose writes the kernel has.
        options = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=200", "-c", "fsync=off", "-c", "hot_standby=on", "-c", "wal_keep_size=256MB"]
        return Process(f"postgres-{self.name}", [str(self.bin / "postgres"), "-D", str(self.data), "-p", str(self.port), *options], self.folder, user=self.USER)

    def await_ready(self) -> None:
        def answers() -> bool:
            # After a kill the children of the one before take a moment to notice, and until then a new one does not start.
            if self.process.child.poll() is not None:
                self.process = self.launch()
            return self.ask("select 1") == "1"

        until(60, f"PostgreSQL {self.name} answers", answers)

    def start(self) -> None:
        """Again, with the data that it has."""
        self.process = self.launch()
        self.await_ready()

    def follow(self, port: int) -> None:
        """Anew, as a standby of the server at a port; what it had is gone."""
        shutil.rmtree(self.data)
        self.make_folder()
        self.copy(port)
        self.start()

    def run(self, program: str, *arguments: str) -> None:
        command = [str(self.bin / program), *arguments]
        if os.geteuid() == 0:
            command = ["setpriv", "--reuid", self.USER, "--regid", self.USER, "--init-groups", *command]
        subprocess.run(command, check=True, capture_output=True, cwd="/", timeout=120)

    def url(self, database: str = "orrery") -> str:
        return f"postgres://orrery@127.0.0.1:{self.port}/{database}"

    def ask(self, statement: str, database: str = "postgres") -> str:
        done = subprocess.run([str(self.bin / "psql"), "-XtAqc", statement, self.url(database)], check=True, capture_output=True, text=True, timeout=20)
        return done.stdout.strip()


class Rabbitmq:
    """A node of its own, beside any other; with `metrics`, a page of its figures at that port; with `tls`, a certificate and its key, AMQP over TLS alone."""

    SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"

    def __init__(self, name: str, folder: Path, metrics: int | None = None, tls: tuple[Path, Path] | None = None):
        self.name, self.folder = name, folder
        self.port, self.management, self.epmd_port, self.distribution = (free_port() for _ in range(4))
        self.home = home = folder / f"rabbitmq-{name}"
        (home / "conf.d").mkdir(parents=True)
        (home / "rabbitmq-env.conf").write_text("")
        (home / "enabled_plugins").write_text("[rabbitmq_management,rabbitmq_prometheus]." if metrics else "[rabbitmq_management].")
        (home / "rabbitmq.conf").write_text(
            (f"listeners.tcp = none\nlisteners.ssl.1 = 127.0.0.1:{self.port}\nssl_options.certfile = {tls[0]}\nssl_options.keyfile = {tls[1]}\n" if tls else f"listeners.tcp.1 = 127.0.0.1:{self.port}\n")
            + f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {self.management}\n"
            "log.file = false\nlog.console = true\nlog.console.level = warning\ndisk_free_limit.absolute = 50MB\n"
            + (f"prometheus.tcp.ip = 127.0.0.1\nprometheus.tcp.port = {metrics}\n" if metrics else "")
        )
        self.start()

    def start(self) -> None:
        """At first, or again with what it had."""
        self.epmd = Process(f"epmd-{self.name}", [shutil.which("epmd") or sorted(glob.glob("/usr/lib/erlang/erts-*/bin/epmd"))[-1], "-port", str(self.epmd_port), "-address", "127.0.0.1"], self.folder)
        text = lambda path: str(self.home / path)  # noqa: E731
        self.process = Process(f"rabbitmq-{self.name}", [self.SERVER], self.folder, {
            "HOME": str(self.home), "detached": "1", "ERL_EPMD_PORT": str(self.epmd_port), "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false",
            "RABBITMQ_NODENAME": f"orrery-region-{self.name}@localhost", "RABBITMQ_DIST_PORT": str(self.distribution),
            "RABBITMQ_CONF_ENV_FILE": text("rabbitmq-env.conf"), "RABBITMQ_CONFIG_FILE": text("rabbitmq.conf"), "RABBITMQ_CONFIG_FILES": text("conf.d"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": text("enabled_plugins"), "RABBITMQ_MNESIA_BASE": text("data"), "RABBITMQ_LOG_BASE": text("log"),
            "RABBITMQ_GENERATED_CONFIG_DIR": text("generated"), "RABBITMQ_SCHEMA_DIR": text("schema"), "RABBITMQ_PLUGINS_EXPAND_DIR": text("plugins"), "RABBITMQ_PID_FILE": text("pid"),
        })

    def await_ready(self) -> None:
        for port in (self.port, self.management):
            until(120, f"RabbitMQ {self.name} takes connections", lambda port=port: socket.create_connection(("127.0.0.1", port), 1))

    def queues(self) -> list[dict]:
        """All queues of a node that is ready, by its management plugin."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.management}/api/queues", headers={"Authorization": "Basic " + base64.b64encode(b"guest:guest").decode()})

        def told() -> list[dict] | None:
            # A queue that is being recovered has no count yet.
            with urllib.request.urlopen(request, timeout=5) as answer:
                found = json.loads(answer.read())
            return found if found and all("messages" in queue for queue in found) else None

        return until(60, f"RabbitMQ {self.name} tells of its queues", told)

    def kill(self) -> None:
        self.process.kill()
        self.epmd.kill()
