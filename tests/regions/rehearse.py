#!/usr/bin/env python3
"""The failover between regions (docs/operate/regions.md), rehearsed with two whole stacks on one machine: rehearse.py BINARY FOLDER

The first is killed under load with everything in it; the second's database is promoted, its broker gets its queues, the outbox is replayed.
With a synchronous standby nothing that was answered may be missing. With an asynchronous one the line between the regions is cut first: what is
missing is counted and named, and has to be what was answered after the cut. The first's data, which are still there, tell the same. Then the way
back: the first's database is made anew from the second's, and under load it is the first's turn again, with nothing lost. The bucket is one for both:
its replication is S3's own.
"""

from __future__ import annotations

import base64
import email.parser
import http.client
import json
import os
import secrets
import shutil
import signal
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
            # Everybody comes from one address here.
            "ORRERY_GATEWAY__RATES__ENABLED": "false",
            "ORRERY_MAILY__TRANSPORT": "capture",
            "ORRERY_MAILY__CAPTURE_DIR": str(self.mail),
            **storage,
            **keys,
        }
        self.serve: Process | None = None

    def command(self, *arguments: str, codes: tuple[int, ...] = (0,)) -> None:
        """Runs a command of the binary to its end."""
        done = Process(f"{arguments[0]}-{self.name}", [self.binary, *arguments], self.folder, self.settings)
        code = done.child.wait(120)
        assert code in codes, f"orrery {' '.join(arguments)} ended with {code}:\n{done.tail()}"

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


ACCOUNTS = "select coalesce(array_to_string(array_agg(vanity), ' '), '') from autha.accounts"
EVENTS = "select coalesce(array_to_string(array_agg(id), ' '), '') from bus.outbox"
NEW_PERSON = ("id", "email", "password", "locale")


class Rehearsal:
    """Two regions, of which one follows the other by a synchronous or an asynchronous standby."""

    def __init__(self, kind: str, binary: str, folder: Path):
        self.kind = kind
        key = lambda: base64.b64encode(os.urandom(32)).decode()  # noqa: E731
        keys = {"ORRERY_KEYS__MASTER": key(), "ORRERY_KEYS__MAIL": key()}
        self.first_database = Postgres("first", folder)
        self.first_database.ask("create database orrery")
        self.link = Link(self.first_database.port)
        self.second_database = Postgres("second", folder, standby_of=self.link.port)
        self.await_streaming(self.first_database)
        if kind == "synchronous":
            self.first_database.ask("alter system set synchronous_standby_names = 'second'")
            self.first_database.ask("select pg_reload_conf()")
            until(30, "the standby is synchronous", lambda: self.first_database.ask("select sync_state from pg_stat_replication") == "sync")
        storage_port = free_port()
        storage = {
            "ORRERY_STORAGE__ENDPOINT": f"http://127.0.0.1:{storage_port}", "ORRERY_STORAGE__BUCKET": "orrery",
            "ORRERY_STORAGE__ACCESS_KEY": secrets.token_hex(10), "ORRERY_STORAGE__SECRET_KEY": secrets.token_hex(20),
        }
        self.store = Process("s3", [binary, "s3", "--listen", f"127.0.0.1:{storage_port}", "--root", str(folder / "s3")], folder, storage)
        self.first = Region("first", binary, folder, self.first_database, storage, keys)
        self.second = Region("second", binary, folder, self.second_database, storage, keys)

    def await_streaming(self, database: Postgres) -> None:
        until(30, f"a standby follows {database.name}", lambda: database.ask("select count(*) from pg_stat_replication where state = 'streaming'") == "1")

    def run(self) -> None:
        for region in (self.first, self.second):
            region.broker.await_ready()
        self.first.command("migrate")
        self.first.start()
        until(60, "the first region is ready", self.first.ready)
        # The second runs beside a database that takes no writes, and says so.
        self.second.command("migrate", codes=(1,))
        self.second.start()
        until(60, "the second region answers", lambda: self.second.request("GET", "/health/live", seconds=3)[0] == 200)
        assert not self.second.ready(), "the second region is ready beside a database that takes no writes"
        answered, cut, times = self.fail()
        present, missing = self.take_over(answered, cut, times)
        self.name_what_is_left(answered, missing)
        again = [{name: person[name] for name in NEW_PERSON} for person in missing[:3]]
        for person in again:
            status, _ = self.second.request("POST", "/create", person, seconds=30)
            assert status == 201, f"somebody who was lost cannot sign up again: {status}"
        self.await_mails(present + again, self.second_database)
        self.go_back(present + again)

    def fail(self) -> tuple[list[dict], float | None, tuple[float, float]]:
        """Kills all of the first region under load, and promotes the second."""
        load = Load(self.first)
        until(120, "people are signed up", lambda: load.count() >= 100)
        cut = None
        if self.kind == "asynchronous":
            self.link.cut()
            cut, before = time.monotonic(), load.count()
            until(60, "people are signed up after the cut", lambda: load.count() >= before + 20)
        killed = time.monotonic()
        self.first.kill()
        self.first_database.process.kill()
        self.link.cut()
        load.stop()
        assert not self.second.ready()
        self.reached = set(self.second_database.ask(ACCOUNTS, "orrery").split())
        promoting = time.monotonic()
        assert self.second_database.ask("select pg_promote(true, 60)") == "t"
        self.second.command("migrate")
        until(60, "the second region is ready", self.second.ready)
        back = time.monotonic()
        self.second.command("events", "replay", "--sent-since", "24h", "--yes", codes=(0, 3))
        return load.answered, cut, (back - killed, back - promoting)

    def take_over(self, answered: list[dict], cut: float | None, times: tuple[float, float]) -> tuple[list[dict], list[dict]]:
        """Nobody is lost who had reached the standby. Who was answered and is there logs in; who is not there was answered after the line was cut."""
        names = set(self.second_database.ask(ACCOUNTS, "orrery").split())
        assert self.reached <= names, f"the promotion lost {sorted(self.reached - names)[:3]}"
        missing = [person for person in answered if person["id"] not in names]
        present = [person for person in answered if person["id"] in names]
        if self.kind == "synchronous":
            assert missing == [], f"{len(missing)} that were answered are missing"
        else:
            assert missing, "nothing is missing: the rehearsal shows nothing"
            # A commit is answered before it is sent: what was under way at the cut may be missing as well.
            early = [person["id"] for person in missing if person["at"] < cut - UNDER_WAY]
            assert early == [], f"missing although they were answered before the cut: {early}"
        for person in present:
            self.logs_in(self.second, person)
        for person in missing:
            status, _ = self.second.request("POST", "/login", {"email": person["email"], "password": person["password"]}, seconds=30)
            assert status == 401, f"somebody who is missing is answered {status}"
        twice = self.await_mails(present, self.second_database)
        print(
            f"{self.kind}: {len(answered)} answered, {len(missing)} of them missing; {twice} mails twice with one Message-ID; "
            f"ready {times[0]:.1f} s after the kill, {times[1]:.1f} s after the promotion began",
            flush=True,
        )
        return present, missing

    def logs_in(self, region: Region, person: dict) -> None:
        status, answer = region.request("POST", "/login", {"email": person["email"], "password": person["password"]}, seconds=30)
        assert status == 200, f"{person['id']} cannot log in at the {region.name}: {status} {answer}"

    def await_mails(self, people: list[dict], database: Postgres) -> int:
        """A mail for each, from one region or the other; how many went out from both."""
        def unmailed() -> list[str]:
            here, there = self.first.mails(), self.second.mails()
            return [person["email"] for person in people if person["email"] not in here and person["email"] not in there]

        until(90, "everybody who is there has a mail", lambda: unmailed() == [])
        until(60, "the outbox is empty", lambda: database.ask("select count(*) from bus.outbox where status = 'pending'", "orrery") == "0")
        here, there = self.first.mails(), self.second.mails()
        # Who was lost and signed up again is somebody new, with a mail of their own from each region.
        twice = [person["email"] for person in people if "at" in person and person["email"] in here and person["email"] in there]
        for address in twice:
            assert set(here[address]) == set(there[address]), f"a mail that went out twice has two Message-IDs: {address}"
        for sent in (here, there):
            assert all(len(ids) == len(set(ids)) for ids in sent.values()), "one region sent a mail twice"
        return len(twice)

    def name_what_is_left(self, answered: list[dict], missing: list[dict]) -> None:
        """The first's data are still there: what they have and the second's have not is what was lost, one by one."""
        self.first_database.start()
        there = set(self.first_database.ask(ACCOUNTS, "orrery").split()) - set(self.second_database.ask(ACCOUNTS, "orrery").split())
        events = set(self.first_database.ask(EVENTS, "orrery").split()) - set(self.second_database.ask(EVENTS, "orrery").split())
        promised = {person["id"] for person in answered}
        lost = sorted(there & promised)
        assert lost == sorted(person["id"] for person in missing), "what is missing is not what the first's data name"
        assert len(events) >= len(lost), f"{len(lost)} accounts are lost, and {len(events)} events"
        print(f"  left in the first region: {len(there)} accounts ({len(there) - len(lost)} of them never answered) and {len(events)} events", flush=True)
        for start in range(0, len(lost), 5):
            print("    lost although answered:", *lost[start : start + 5], flush=True)
        self.first_database.process.end(signal.SIGINT)

    def go_back(self, people: list[dict]) -> None:
        """A planned way back under load: nothing may be lost, and no mail goes out again."""
        self.first_database.follow(self.second_database.port)
        self.await_streaming(self.second_database)
        self.first.broker.start()
        self.first.broker.await_ready()
        assert self.first.broker.queues(), "the first's broker has lost its queues"
        load = Load(self.second)
        until(60, "people are signed up in the second region", lambda: load.count() >= 30)
        away = time.monotonic()
        self.second.serve.end()
        load.stop()
        place = self.second_database.ask("select pg_current_wal_lsn()")
        until(60, "the first's database has all of the second's", lambda: self.first_database.ask(f"select pg_last_wal_replay_lsn() >= '{place}'::pg_lsn") == "t")
        self.second_database.process.end(signal.SIGINT)
        assert self.first_database.ask("select pg_promote(true, 60)") == "t"
        self.first.command("migrate")
        # What waits in the first's broker is of before.
        for handler in self.handlers():
            for queues in ([], ["--retry", "--quarantine"]):
                self.first.command("queues", "purge", handler, *queues, "--yes", codes=(0, 3))
        until(30, "the first's queues are empty", lambda: not [queue for queue in self.first.broker.queues() if queue["name"].split(".")[0] in SERVICES.split(",") and queue["messages"]])
        sent = self.first.mails()
        self.first.start()
        until(60, "the first region is ready again", self.first.ready)
        back = time.monotonic()
        self.first.command("events", "replay", "--sent-since", "24h", "--yes", codes=(0, 3))
        names = set(self.first_database.ask(ACCOUNTS, "orrery").split())
        gone = sorted(person["id"] for person in people + load.answered if person["id"] not in names)
        assert gone == [], f"the way back lost {gone}"
        for person in people + load.answered:
            self.logs_in(self.first, person)
        self.await_mails(people + load.answered, self.first_database)
        now, new = self.first.mails(), {person["email"] for person in load.answered}
        again = sorted(address for address, ids in now.items() if address not in new and ids != sent.get(address))
        assert not set(again) & {person["email"] for person in people if "at" in person}, f"the way back sent mails of before again: {again[:3]}"
        print(f"  back in the first region: {len(load.answered)} more answered, none missing; {back - away:.1f} s without service", flush=True)

    def handlers(self) -> list[str]:
        """Of the services that run; the others are bridges' queues."""
        names = self.first_database.ask("select name from bus.handlers", "orrery").split()
        return [name for name in names if name.split(".")[0] in SERVICES.split(",") and name != "spinoza.notifications"]

    def end(self) -> None:
        for each in (self.first, self.second):
            each.kill()
        for process in (self.store, self.first_database.process, self.second_database.process):
            process.kill()


def rehearse(kind: str, binary: str, folder: Path) -> None:
    """One rehearsal, with the logs of both when it fails."""
    rehearsal = Rehearsal(kind, binary, folder)
    try:
        rehearsal.run()
    except BaseException:
        for process in (rehearsal.first.serve, rehearsal.second.serve):
            if process:
                print(f"--- the end of {process.log.name}\n{process.tail()}", file=sys.stderr)
        raise
    finally:
        rehearsal.end()


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
