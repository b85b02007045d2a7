"""A running installation that is watched with the files of observability/: every target is read, every rule and graph is answered, and an alert fires when a
dead letter lies and stops when it is redriven."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import urllib.request
from pathlib import Path

import pytest
from conftest import DEFINITIONS, OBSERVABILITY, ROOT, exporter_queries, ours
from installation import Installation, read, until


def binary() -> Path:
    for candidate in (os.environ.get("ORRERY_BIN"), *(ROOT / "target" / profile / "orrery" for profile in ("debug", "release"))):
        if candidate and Path(candidate).exists():
            return Path(candidate).resolve()
    pytest.skip("there is no orrery binary: cargo build --bin orrery, or ORRERY_BIN=PATH")


@pytest.fixture(scope="module")
def installation():
    path = binary()
    # PostgreSQL's user has to get through to its data, which it does not below /root.
    folder = Path(tempfile.mkdtemp(prefix="orrery-telemetry.", dir="/var/tmp"))
    folder.chmod(0o711)
    made = None
    try:
        made = Installation(path, folder)
        yield made
    finally:
        if made:
            made.end()
        if sys.exc_info()[0] or os.environ.get("KEEP_LOGS"):
            print(f"the logs are kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def asked(installation: Installation, name: str) -> dict[str, float | None]:
    """A figure as an installation without Prometheus knows it."""
    how = DEFINITIONS["figures"][name]["asked"]
    told = json.loads(installation.command(*how["command"].split()))
    return {entry[how["label"]]: entry[how["value"]] for entry in told[how["list"]]}


def test_every_target_is_read(installation: Installation) -> None:
    def away() -> list:
        return [(each["labels"]["job"], each["lastError"]) for each in installation.ask("targets")["activeTargets"] if each["health"] != "up"]

    def jobs() -> set[str]:
        return {each["labels"]["job"] for each in installation.ask("targets")["activeTargets"]}

    wanted = {"orrery", "rabbitmq", "rabbitmq-queues", "postgres-exporter", "prometheus", "alertmanager", "probe"}
    until(60, "every target is there", lambda: jobs() == wanted)
    until(60, "every target is up", lambda: not away())


def test_what_others_tell_is_there_under_the_names_that_we_use(installation: Installation) -> None:
    wanted = exporter_queries() - {"pg_replicas_lag_seconds", "pg_replicas_lag_bytes"}  # there is no replica
    wanted |= {"pg_up", "rabbitmq_disk_space_available_bytes", "rabbitmq_disk_space_available_limit_bytes", "rabbitmq_alarms_memory_used_watermark", "rabbitmq_alarms_free_disk_space_watermark"}
    wanted |= {"rabbitmq_process_resident_memory_bytes", "rabbitmq_resident_memory_limit_bytes", "rabbitmq_detailed_queue_messages_ready", "rabbitmq_detailed_queue_messages_unacked", "rabbitmq_detailed_queue_consumers"}
    wanted |= {"prometheus_rule_evaluation_failures_total", "alertmanager_notifications_failed_total"}
    until(30, "the figures are there", lambda: wanted <= set(installation.ask("label/__name__/values")))
    assert installation.value('pg_tables_size_bytes{table="bus.outbox"}') > 0
    assert installation.value('rabbitmq_detailed_queue_consumers{queue="maily.email"}') >= 1
    until(30, "the way in is asked", lambda: installation.value("probe_success") == 1)


def test_what_a_process_shows_is_what_the_file_of_metrics_says(installation: Installation) -> None:
    defined = ours()
    for line in installation.page().splitlines():
        found = re.match(r"((?:orrery|http_server|db_client)_\w+)(?:\{(.*)\})? ", line)
        if found:
            assert found[1] in defined, f"{found[1]} is in no list"
            labels = set(re.findall(r'(\w+)="', found[2] or "")) - {"otel_scope_name", "otel_scope_version"}
            assert {label for label in labels if not label.startswith("otel_scope")} <= defined[found[1]], line


def test_an_alert_fires_when_a_dead_letter_lies_and_stops_when_it_is_redriven(installation: Installation) -> None:
    if "orrery_dead_letters_waiting" not in installation.page():
        pytest.skip("this binary does not tell how many dead letters lie: build it again")
    installation.sign_up()
    until(30, "a mail goes out", lambda: installation.mail.taken == 1)
    assert "OrreryDeadLetters" not in installation.told.alerts
    installation.mail.refuses = True
    people = [installation.sign_up() for _ in range(2)]
    fired = until(90, "somebody is told of the letters", lambda: (installation.told.alerts.get("OrreryDeadLetters") or {}).get("status") == "firing" and installation.told.alerts["OrreryDeadLetters"])
    assert fired["labels"]["handler"] == "maily.email" and fired["labels"]["severity"] == "ticket"
    assert "dead letters of maily.email wait for a decision" in fired["annotations"]["summary"]
    assert (ROOT / fired["annotations"]["runbook_url"].split("/blob/main/")[1]).exists()
    until(60, "both letters are counted", lambda: installation.value('max(orrery_dead_letters_waiting{handler="maily.email"})') == 2)

    # The same without Prometheus.
    assert asked(installation, "dead_letters")["maily.email"] == 2

    # As its runbook says.
    assert "maily.email" in installation.command("queues", "dead", "count")
    installation.mail.refuses = False
    installation.command("queues", "dead", "redrive", "--handler", "maily.email", "--reason", "550")
    until(60, "their mails go out", lambda: installation.mail.taken == 3)
    until(90, "somebody is told that it is over", lambda: installation.told.alerts["OrreryDeadLetters"]["status"] == "resolved")
    assert installation.value('max(orrery_dead_letters_waiting{handler="maily.email"})') in (0, None)

    # Nothing that was told or kept names anybody.
    kept = json.dumps(installation.ask("series", **{"match[]": '{__name__=~".+"}'})) + installation.told.everything + installation.page()
    for person in people:
        for mark in (person["id"], person["email"], person["password"]):
            assert mark not in kept


@pytest.mark.parametrize("name", [name for name, figure in DEFINITIONS["figures"].items() if "command" in figure["asked"]])
def test_a_figure_can_be_asked_without_prometheus(name: str, installation: Installation) -> None:
    for label, value in asked(installation, name).items():
        assert isinstance(label, str) and (value is None or value >= 0)


def test_the_watchdog_is_heard(installation: Installation) -> None:
    until(60, "the dead man's switch is told", lambda: installation.told.watchdogs > 0)


def test_a_cause_is_told_and_not_its_consequences(installation: Installation) -> None:
    place = f"http://127.0.0.1:{installation.alertmanager}/api/v2/alerts"
    alerts = [{"labels": {"alertname": name, "severity": "page", "of": "test"}} for name in ("PostgresqlDown", "OrreryOverload", "DiskNearlyFull")]
    request = urllib.request.Request(place, json.dumps(alerts).encode(), {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=10).close()

    def states() -> dict[str, str]:
        return {alert["labels"]["alertname"]: alert["status"]["state"] for alert in json.loads(read(place)) if alert["labels"].get("of") == "test"}

    until(30, "the consequence is held back", lambda: states() == {"PostgresqlDown": "active", "OrreryOverload": "suppressed", "DiskNearlyFull": "active"})


def test_every_rule_is_evaluated(installation: Installation) -> None:
    def rules() -> list[dict]:
        return [rule for group in installation.ask("rules")["groups"] for rule in group["rules"]]

    until(30, "all rules were evaluated", lambda: all(rule["health"] != "unknown" for rule in rules()))
    assert [(rule["name"], rule.get("lastError")) for rule in rules() if rule["health"] != "ok"] == []


def test_nothing_else_fires_in_an_installation_that_is_well(installation: Installation) -> None:
    firing = {alert["labels"]["alertname"] for alert in installation.ask("alerts")["alerts"] if alert["state"] == "firing"}
    # The mails that the test above had refused.
    assert firing - {"Watchdog", "OrreryDeadLetters", "MailRejected"} == set()


def test_every_graph_is_answered(installation: Installation) -> None:
    for file in sorted((OBSERVABILITY / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel.get("targets", []):
                if target["datasource"]["type"] == "prometheus":
                    installation.ask("query", query=target["expr"])
