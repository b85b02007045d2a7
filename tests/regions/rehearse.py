#!/usr/bin/env python3
"""The failover between regions (docs/operate/regions.md), rehearsed with two whole stacks on one machine: rehearse.py BINARY FOLDER

The first is killed under load with everything in it; the second's database is promoted, its broker gets its queues, the outbox is replayed.
With a synchronous standby nothing that was answered may be missing. With an asynchronous one the line between the regions is cut first: what is
missing is counted and named, and has to be what was answered after the cut. The bucket is one for both: its replication is S3's own.
"""

from __future__ import annotations

import base64
import email.parser
import http.client
import json
import os
import secrets
import shutil
import sys
import threading
import time
from pathlib import Path

from servers import Link, Postgres, Process, Rabbitmq, free_port, until

# How long before the cut a commit may have been answered and not yet be on the other side, on one machine.
UNDER_WAY = 1.0
SERVICES = "autha,maily,spinoza,gateway"


class Region:
    """One stack: a broker, and the binary beside a database."""

    def __init__(self, name: str, binary: str, folder: Path, database: Postgres, storage: dict[str, str], keys: dict[str, str]):
        self.name, self.binary, self.folder = name, binary, folder
        self.mail = folder / f"mail-{name}"
        self.mail.mkdir()
        self.gateway, autha, internal = free_port(), free_port(), free_port()
        self.broker = Rabbitmq(name, folder)
        self.settings = {
            "ORRERY_SERVICES": SERVICES,
            "ORRERY_DATABASE__URL": database.url(),
            "ORRERY_BROKER__URL": f"amqp://guest:guest@127.0.0.1:{self.broker.port}/%2f",
            "ORRERY_BROKER__MANAGEMENT_URL": f"http://guest:guest@127.0.0.1:{self.broker.management}",
            "ORRERY_GATEWAY__LISTEN": f"127.0.0.1:{self.gateway}",
            "ORRERY_GATEWAY__AUTHA": f"http://127.0.0.1:{autha}",
            "ORRERY_AUTHA__LISTEN": f"127.0.0.1:{autha}",
            "ORRERY_AUTHA__PUBLIC_URL": "http://accounts.example",
            "ORRERY_INTERNAL__LISTEN": f"127.0.0.1:{internal}",
            "ORRERY_MAILY__TRANSPORT": "capture",
            "ORRERY_MAILY__CAPTURE_DIR": str(self.mail),
            **storage,
            **keys,
        }
        self.serve: Process | None = None

    def command(self, *arguments: str) -> None:
        """Runs a command of the binary to its end."""
        done = Process(f"{arguments[0]}-{self.name}", [self.binary, *arguments], self.folder, self.settings)
        code = done.child.wait(120)
        assert code == 0, f"orrery {' '.join(arguments)} ended with {code}:\n{done.tail()}"

    def start(self) -> None:
        self.serve = Process(f"serve-{self.name}", [self.binary, "serve"], self.folder, self.settings)

    def request(self, method: str, path: str, body: object = None, seconds: float = 10) -> tuple[int, object]:
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway, timeout=seconds)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text.startswith(b"{") else None
        finally:
            connection.close()

    def ready(self) -> bool:
        assert self.serve and self.serve.child.poll() is None, f"serve of {self.name} ended:\n{self.serve.tail() if self.serve else ''}"
        return self.request("GET", "/health/ready", seconds=3)[0] == 200

    def mails(self) -> dict[str, list[str]]:
        """The Message-IDs by receiver."""
        found: dict[str, list[str]] = {}
        for file in self.mail.glob("*.eml"):
            head = email.parser.HeaderParser().parsestr(file.read_text(errors="replace"))
            found.setdefault(head["To"].strip("<> ").rpartition("<")[2].strip("<>"), []).append(head["Message-ID"])
        return found

    def kill(self) -> None:
        if self.serve:
            self.serve.kill()
        self.broker.kill()


class Load:
    """People who sign up, four at a time; who was answered, and when."""

    def __init__(self, region: Region):
        self.region, self.stopped = region, threading.Event()
        self.answered: list[dict] = []
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(4)]
        for thread in self.threads:
            thread.start()

    def run(self) -> None:
        while not self.stopped.is_set():
            name = secrets.token_hex(12)
            person = {"id": f"p_{name}", "email": f"m_{name}@people.example", "password": f"Tr-{secrets.token_hex(16)}", "locale": "en"}
            try:
                status, _ = self.region.request("POST", "/create", person)
            except (OSError, http.client.HTTPException):
                continue
            if status == 201:
                with self.lock:
                    self.answered.append({**person, "at": time.monotonic()})
            elif self.stopped.wait(0.1):
                return

    def count(self) -> int:
        with self.lock:
            return len(self.answered)

    def stop(self) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join(15)


def rehearse(kind: str, binary: str, folder: Path) -> None:
    """One rehearsal, with a synchronous or an asynchronous standby."""
    key = lambda: base64.b64encode(os.urandom(32)).decode()  # noqa: E731
    keys = {"ORRERY_KEYS__MASTER": key(), "ORRERY_KEYS__MAIL": key()}
    first_database = Postgres("first", folder)
    first_database.ask("create database orrery")
    link = Link(first_database.port)
    second_database = Postgres("second", folder, standby_of=link.port)
    until(30, "the standby follows", lambda: first_database.ask("select count(*) from pg_stat_replication where state = 'streaming'") == "1")
    if kind == "synchronous":
        first_database.ask("alter system set synchronous_standby_names = 'second'")
        first_database.ask("select pg_reload_conf()")
        until(30, "the standby is synchronous", lambda: first_database.ask("select sync_state from pg_stat_replication") == "sync")

    storage_port = free_port()
    storage = {
        "ORRERY_STORAGE__ENDPOINT": f"http://127.0.0.1:{storage_port}", "ORRERY_STORAGE__BUCKET": "orrery",
        "ORRERY_STORAGE__ACCESS_KEY": secrets.token_hex(10), "ORRERY_STORAGE__SECRET_KEY": secrets.token_hex(20),
    }
    store = Process("s3", [binary, "s3", "--listen", f"127.0.0.1:{storage_port}", "--root", str(folder / "s3")], folder, storage)
    first = Region("first", binary, folder, first_database, storage, keys)
    second = Region("second", binary, folder, second_database, storage, keys)
    try:
        for region in (first, second):
            region.broker.await_ready()
        first.command("migrate")
        first.start()
        until(60, "the first region is ready", first.ready)
        # It runs beside a database that takes no writes, and says so.
        second.start()
        until(60, "the second region answers", lambda: second.request("GET", "/health/live", seconds=3)[0] == 200)
        assert not second.ready(), "the second region is ready beside a database that takes no writes"

        load = Load(first)
        until(60, "people are signed up", lambda: load.count() >= 100)
        cut = None
        if kind == "asynchronous":
            link.cut()
            cut, before = time.monotonic(), load.count()
            until(60, "people are signed up after the cut", lambda: load.count() >= before + 20)
        killed = time.monotonic()
        first.serve.kill()
        first.broker.kill()
        first_database.process.kill()
        link.cut()
        load.stop()
        assert not second.ready()
        accounts = "select coalesce(array_to_string(array_agg(vanity), ' '), '') from autha.accounts"
        reached = set(second_database.ask(accounts, "orrery").split())

        promoting = time.monotonic()
        assert second_database.ask("select pg_promote(true, 60)") == "t"
        second.command("migrate")
        until(60, "the second region is ready", second.ready)
        back = time.monotonic()
        second.command("events", "replay", "--sent-since", "24h", "--yes")

        # Nobody is lost who had reached the standby. Who was answered and is there logs in; who is not there was answered after the line was cut.
        names = set(second_database.ask(accounts, "orrery").split())
        assert reached <= names, f"the promotion lost {sorted(reached - names)[:3]}"
        missing = [person for person in load.answered if person["id"] not in names]
        present = [person for person in load.answered if person["id"] in names]
        if kind == "synchronous":
            assert missing == [], f"{len(missing)} that were answered are missing"
        else:
            assert missing, "nothing is missing: the rehearsal shows nothing"
            # A commit is answered before it is sent: what was under way at the cut may be missing as well.
            early = [person["id"] for person in missing if person["at"] < cut - UNDER_WAY]
            assert early == [], f"missing although they were answered before the cut: {early}"
        for person in present:
            status, answer = second.request("POST", "/login", {"email": person["email"], "password": person["password"]}, seconds=30)
            assert status == 200, f"{person['id']} cannot log in: {status} {answer}"
        for person in missing[:3]:
            status, _ = second.request("POST", "/login", {"email": person["email"], "password": person["password"]}, seconds=30)
            assert status == 401, f"somebody who is missing is answered {status}"
            status, _ = second.request("POST", "/create", {name: person[name] for name in ("id", "email", "password", "locale")}, seconds=30)
            assert status == 201, f"somebody who was lost cannot sign up again: {status}"

        # A mail for each that is there, from one region or the other.
        def unmailed() -> list[str]:
            here, there = first.mails(), second.mails()
            return [person["email"] for person in present if person["email"] not in here and person["email"] not in there]

        until(90, "everybody who is there has a mail", lambda: unmailed() == [])
        until(60, "the outbox is empty", lambda: second_database.ask("select count(*) from bus.outbox where status = 'pending'", "orrery") == "0")
        here, there = first.mails(), second.mails()
        # Who signed up again is somebody new.
        twice = [person["email"] for person in present if person["email"] in here and person["email"] in there]
        for address in twice:
            assert set(here[address]) == set(there[address]), f"a mail that went out twice has two Message-IDs: {address}"
        assert all(len(ids) == 1 for ids in there.values()), "the second region sent a mail twice"
        named = f" (from {missing[0]['id']} on)" if missing else ""
        print(
            f"{kind}: {len(load.answered)} answered; {len(missing)} missing{named}; "
            f"{len(twice)} mails twice with one Message-ID; ready {back - killed:.1f} s after the kill, {back - promoting:.1f} s after the promotion began",
            flush=True,
        )
    except BaseException:
        for process in (first.serve, second.serve):
            if process:
                print(f"--- the end of {process.log.name}\n{process.tail()}", file=sys.stderr)
        raise
    finally:
        for each in (first, second):
            each.kill()
        for process in (store, first_database.process, second_database.process):
            process.kill()


def main() -> int:
    binary, folder = os.path.abspath(sys.argv[1]), Path(sys.argv[2]).resolve()
    for kind in ("synchronous", "asynchronous"):
        place = folder / kind
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        place.chmod(0o711)
        rehearse(kind, binary, place)
        shutil.rmtree(place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
