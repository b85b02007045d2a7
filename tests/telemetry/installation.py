"""A whole installation for one test session: PostgreSQL, RabbitMQ, the binary, a mail server that can refuse, Debian's exporter, Prometheus and Alertmanager
with the files of observability/, and somebody who is told. Addresses are of this machine and times are short; nothing else is changed."""

from __future__ import annotations

import base64
import http.client
import http.server
import itertools
import json
import os
import secrets
import socketserver
import sys
import threading
import urllib.parse
import urllib.request
from pathlib import Path

import yaml
from conftest import OBSERVABILITY, ROOT, tool

sys.path.insert(0, str(ROOT / "tests" / "regions"))

from servers import Postgres, Process, Rabbitmq, free_port, until  # noqa: E402  the folder has to be on the path first


class MailServer(socketserver.ThreadingTCPServer):
    """Takes mails, or refuses every recipient for good while `refuses`."""

    allow_reuse_address = daemon_threads = True

    def __init__(self):
        self.refuses, self.taken, self.port = False, 0, free_port()
        super().__init__(("127.0.0.1", self.port), MailSession)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class MailSession(socketserver.StreamRequestHandler):
    def say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())

    def handle(self) -> None:
        self.say("220 mail.test")
        while line := self.rfile.readline():
            word = line[:4].upper()
            if word == b"DATA":
                self.say("354 go on")
                while (part := self.rfile.readline()) and part != b".\r\n":
                    pass
                self.server.taken += 1
            refused = word == b"RCPT" and self.server.refuses
            self.say("550 5.1.1 no such mailbox" if refused else "221 bye" if word == b"QUIT" else "250 ok")
            if word == b"QUIT":
                return


class Told(http.server.ThreadingHTTPServer):
    """What Alertmanager tells: of each alert its last word, by name."""

    daemon_threads = True

    def __init__(self):
        self.port = free_port()
        self.alerts: dict[str, dict] = {}
        self.everything = ""
        self.watchdogs = 0
        super().__init__(("127.0.0.1", self.port), ToldRequest)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class ToldRequest(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.everything += text
        if self.path == "/watchdog":
            self.server.watchdogs += 1
        else:
            for alert in json.loads(text)["alerts"]:
                self.server.alerts[alert["labels"]["alertname"]] = alert
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_) -> None:
        pass


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


class Installation:
    def __init__(self, binary: Path, folder: Path):
        self.binary, self.folder = str(binary), folder
        self.processes: list[Process] = []
        self.commands = itertools.count()
        self.mail, self.told = MailServer(), Told()
        self.gateway, autha, self.internal, storage, self.rabbit_metrics = (free_port() for _ in range(5))
        self.postgres = Postgres("telemetry", folder)
        self.rabbitmq = Rabbitmq("telemetry", folder, metrics=self.rabbit_metrics)
        self.processes += [self.postgres.process]
        self.postgres.ask("create database orrery")
        # As docker/postgres/roles makes it.
        self.postgres.ask("create role exporter login")
        self.postgres.ask("grant pg_monitor to exporter")
        key = lambda: base64.b64encode(os.urandom(32)).decode()  # noqa: E731
        self.settings = {
            "ORRERY_SERVICES": "autha,maily,spinoza,gateway",
            "ORRERY_DATABASE__URL": self.postgres.url(), "ORRERY_BROKER__URL": f"amqp://guest:guest@127.0.0.1:{self.rabbitmq.port}/%2f",
            "ORRERY_BROKER__MANAGEMENT_URL": f"http://guest:guest@127.0.0.1:{self.rabbitmq.management}",
            "ORRERY_GATEWAY__LISTEN": f"127.0.0.1:{self.gateway}", "ORRERY_GATEWAY__AUTHA": f"http://127.0.0.1:{autha}", "ORRERY_AUTHA__LISTEN": f"127.0.0.1:{autha}",
            "ORRERY_AUTHA__PUBLIC_URL": "http://accounts.example", "ORRERY_INTERNAL__LISTEN": f"127.0.0.1:{self.internal}",
            "ORRERY_MAILY__TRANSPORT": "smtp", "ORRERY_MAILY__SMTP__HOST": "127.0.0.1", "ORRERY_MAILY__SMTP__PORT": str(self.mail.port), "ORRERY_MAILY__SMTP__TLS": "none",
            "ORRERY_STORAGE__ENDPOINT": f"http://127.0.0.1:{storage}", "ORRERY_STORAGE__BUCKET": "orrery",
            "ORRERY_STORAGE__ACCESS_KEY": secrets.token_hex(10), "ORRERY_STORAGE__SECRET_KEY": secrets.token_hex(20),
            "ORRERY_KEYS__MASTER": key(), "ORRERY_KEYS__MAIL": key(),
        }
        self.start("s3", self.binary, "s3", "--listen", f"127.0.0.1:{storage}", "--root", str(folder / "s3"))
        self.rabbitmq.await_ready()
        self.command("migrate")
        self.start("serve", self.binary, "serve")
        until(60, "orrery is ready", lambda: json.loads(read(f"http://127.0.0.1:{self.internal}/health/ready")))
        self.watch()

    def start(self, name: str, *command: str, **more: str) -> Process:
        process = Process(name, list(command), self.folder, {**self.settings, **more})
        self.processes.append(process)
        return process

    def command(self, *arguments: str) -> str:
        """A command of the binary, to its good end."""
        process = Process(f"command-{next(self.commands)}", [self.binary, *arguments], self.folder, self.settings)
        code = process.child.wait(120)
        assert code == 0, f"orrery {' '.join(arguments)} ended with {code}:\n{process.tail()}"
        return process.tail()

    def watch(self) -> None:
        exporter, blackbox, self.prometheus, self.alertmanager = (free_port() for _ in range(4))
        self.start("blackbox", "prometheus-blackbox-exporter", f"--config.file={OBSERVABILITY}/blackbox/blackbox.yml", f"--web.listen-address=127.0.0.1:{blackbox}")
        self.start(
            "exporter", "prometheus-postgres-exporter", f"--web.listen-address=127.0.0.1:{exporter}",
            DATA_SOURCE_NAME=f"postgres://exporter@127.0.0.1:{self.postgres.port}/orrery?sslmode=disable",
            PG_EXPORTER_EXTEND_QUERY_PATH=str(OBSERVABILITY / "postgres-exporter" / "queries.yaml"),
        )
        targets = {
            "orrery": self.internal, "rabbitmq": self.rabbit_metrics, "rabbitmq-queues": self.rabbit_metrics, "postgres-exporter": exporter,
            "prometheus": self.prometheus, "alertmanager": self.alertmanager, "probe": blackbox,
        }
        config = yaml.safe_load((OBSERVABILITY / "prometheus" / "prometheus.yml").read_text())
        config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(OBSERVABILITY / "prometheus" / "rules" / "*.yml")]
        config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [f"127.0.0.1:{self.alertmanager}"]}]}]
        config["scrape_configs"] = [job for job in config["scrape_configs"] if job["job_name"] in targets]
        for job in config["scrape_configs"]:
            for key in ("dns_sd_configs", "file_sd_configs", "static_configs", "scrape_interval"):
                job.pop(key, None)
            if job["job_name"] == "probe":
                # As it is written, but for where the exporter is.
                job["static_configs"] = [{"targets": [f"http://127.0.0.1:{self.gateway}/health/ready"]}]
                for rule in job["relabel_configs"]:
                    if rule["target_label"] == "__address__":
                        rule["replacement"] = f"127.0.0.1:{blackbox}"
                continue
            job.pop("relabel_configs", None)
            labels = {"workload": "orrery"} if job["job_name"] == "orrery" else {}
            job["static_configs"] = [{"targets": [f"127.0.0.1:{targets[job['job_name']]}"], "labels": labels}]
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        here = f"http://127.0.0.1:{self.told.port}"
        written = yaml.safe_load(tool(str(OBSERVABILITY / "alertmanager" / "receivers"), "--webhook", f"{here}/told", "--watchdog", f"{here}/watchdog", given=""))
        for route in [written["route"], *written["route"]["routes"]]:
            route |= {"group_wait": "0s", "group_interval": "1s"}
        (self.folder / "alertmanager.yml").write_text(yaml.safe_dump(written))
        self.start(
            "alertmanager", "prometheus-alertmanager", f"--config.file={self.folder}/alertmanager.yml", f"--storage.path={self.folder}/alertmanager",
            f"--web.listen-address=127.0.0.1:{self.alertmanager}", "--cluster.listen-address=",
        )
        self.start(
            "prometheus", "prometheus", f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/prometheus",
            f"--web.listen-address=127.0.0.1:{self.prometheus}", "--enable-feature=exemplar-storage",
        )
        for name, port in (("Alertmanager", self.alertmanager), ("Prometheus", self.prometheus)):
            until(60, f"{name} is ready", lambda port=port: read(f"http://127.0.0.1:{port}/-/ready"))

    def ask(self, path: str, **parameters: str) -> dict:
        answer = json.loads(read(f"http://127.0.0.1:{self.prometheus}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"))
        assert answer["status"] == "success", answer
        return answer["data"]

    def value(self, query: str) -> float | None:
        """The query's only value, if it has one."""
        found = self.ask("query", query=query)["result"]
        return float(found[0]["value"][1]) if len(found) == 1 else None

    def page(self) -> str:
        return read(f"http://127.0.0.1:{self.internal}/metrics")

    def sign_up(self) -> dict[str, str]:
        name = secrets.token_hex(12)
        person = {"id": f"p_{name}", "email": f"m_{name}@people.example", "password": f"Tr-{secrets.token_hex(16)}", "locale": "en"}
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway, timeout=30)
        connection.request("POST", "/create", json.dumps(person), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 201, (answer.status, answer.read())
        connection.close()
        return person

    def end(self) -> None:
        for process in reversed(self.processes):
            process.kill()
        self.rabbitmq.kill()
        self.mail.shutdown()
        self.told.shutdown()
