"""Each alert with series that it has to fire on and series that it has to be quiet about, judged by promtool. Times are minutes; a series has a sample a minute."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from conftest import DEFINITIONS, OBSERVABILITY, make, tool

RULES = sorted((OBSERVABILITY / "prometheus" / "rules").glob("*.yml"))


@dataclass
class Case:
    """Series that lead to an alert: `fires` says when and with which labels and words, `quiet` when not."""

    alert: str
    series: dict[str, str]
    fires: dict[int, list[tuple[dict[str, str], str]]] = field(default_factory=dict)
    quiet: list[int] = field(default_factory=list)


def flat(value: float, minutes: int) -> str:
    return f"{value}x{minutes - 1}"


def steps(*parts: tuple[float, int]) -> str:
    """A value for so many minutes, then another."""
    return " ".join(f"{value}x{minutes - 1}" for value, minutes in parts)


def growing(by: float, minutes: int, start: float = 0) -> str:
    return f"{start}+{by}x{minutes}"


PROCESS = 'job="orrery",instance="10.0.0.1:8090",workload="autha"'
AT = {"job": "orrery", "instance": "10.0.0.1:8090", "workload": "autha"}
REQUESTS = "http_server_request_duration_seconds_count"

CASES = [
    Case("OrreryProcessDown", {f"up{{{PROCESS}}}": steps((1, 5), (0, 15), (1, 5))},
         {11: [(AT, "10.0.0.1:8090 shows no metrics")]}, [4, 8, 21]),
    # One of two that is gone is a matter of its own alert: only the last one of a part that is gone fires.
    Case("OrreryProcessGone", {f"up{{{PROCESS}}}": "1x9 stale", 'up{job="orrery",instance="10.0.0.2:8090",workload="gateway"}': flat(1, 30)},
         {20: [({"workload": "autha"}, "no process of autha is left of those that ran within six hours")]}, [8, 12]),
    Case("OrreryActorDown", {f'orrery_actor_running{{actor="relay",{PROCESS}}}': steps((1, 3), (0, 10), (1, 5))},
         {9: [({**AT, "actor": "relay"}, "relay in 10.0.0.1:8090 does not come back")]}, [2, 5, 14]),
    Case("OrreryActorRestarts", {f'orrery_actor_restarts_total{{actor="maily.email",{PROCESS}}}': growing(1, 20)},
         {15: [({**AT, "actor": "maily.email"}, "maily.email in 10.0.0.1:8090 was built anew more than three times in 15 minutes")]}, [2]),
    Case("OrreryActorRestarts", {f'orrery_actor_restarts_total{{actor="maily.email",{PROCESS}}}': steps((0, 5), (2, 30))}, {}, [10, 15, 20]),
    # A counter that begins with its first count.
    Case("OrreryMessagesPanic", {f'orrery_actor_failures_total{{actor="spinoza.images",{PROCESS}}}': "_x4 1x30"},
         {6: [({"actor": "spinoza.images"}, "the work of spinoza.images panicked 1 times in 15 minutes")]}, [3, 25]),
    Case("OrreryOverload", {f'orrery_actor_refused_total{{actor="autha.passwords",{PROCESS}}}': growing(5, 20)},
         {15: [({"actor": "autha.passwords"}, "autha.passwords refuses work: people get 503")]}, [5]),
    Case("OrreryOverload", {f'orrery_actor_refused_total{{actor="autha.passwords",{PROCESS}}}': flat(40, 30)}, {}, [15, 25]),
    Case("OrreryMailboxFills", {
        f'orrery_actor_waiting{{actor="autha.accounts",{PROCESS}}}': steps((10, 3), (60, 10)), f'orrery_actor_capacity{{actor="autha.accounts",{PROCESS}}}': flat(64, 20),
        # No mailbox of its own: nothing waits there.
        f'orrery_actor_waiting{{actor="pruner",{PROCESS}}}': flat(1, 20), f'orrery_actor_capacity{{actor="pruner",{PROCESS}}}': flat(0, 20),
    }, {10: [({**AT, "actor": "autha.accounts"}, "the mailbox of autha.accounts in 10.0.0.1:8090 is nearly full")]}, [2, 5]),
    Case("OrreryPoolExhausted", {f'db_client_connection_timeouts_total{{db_client_connection_pool_name="autha",{PROCESS}}}': growing(2, 20)},
         {10: [({"db_client_connection_pool_name": "autha"}, "autha gets no connection to PostgreSQL in time")]}, [3]),
    # 3 % of requests fail: two days' worth of the budget.
    Case("ErrorBudgetBurnsFast", {
        f'{REQUESTS}{{service="gateway",http_response_status_code="200",{PROCESS}}}': growing(970, 90),
        f'{REQUESTS}{{service="gateway",http_response_status_code="503",{PROCESS}}}': growing(30, 90),
    }, {70: [({}, "3% of the requests of the last hour were answered 5xx")]}, [1]),
    # What callers do wrong spends nothing, and what autha answers is counted at the gateway.
    Case("ErrorBudgetBurnsFast", {
        f'{REQUESTS}{{service="gateway",http_response_status_code="404",{PROCESS}}}': growing(900, 90),
        f'{REQUESTS}{{service="gateway",http_response_status_code="200",{PROCESS}}}': growing(100, 90),
        f'{REQUESTS}{{service="autha",http_response_status_code="500",{PROCESS}}}': growing(900, 90),
    }, {}, [30, 70, 89]),
    Case("ErrorBudgetBurns", {
        f'{REQUESTS}{{service="gateway",http_response_status_code="200",{PROCESS}}}': growing(990, 400),
        f'{REQUESTS}{{service="gateway",http_response_status_code="500",{PROCESS}}}': growing(10, 400),
    }, {390: [({}, "1% of the requests of the last six hours were answered 5xx")]}, [5]),
    Case("OrreryDeadLetters", {
        f'orrery_dead_letters_waiting{{handler="maily.email",{PROCESS}}}': steps((0, 5), (3, 10), (0, 5)),
        # Every process may tell the same letters.
        'orrery_dead_letters_waiting{handler="maily.email",job="orrery",instance="10.0.0.2:8090",workload="maily"}': steps((0, 5), (3, 10), (0, 5)),
    }, {6: [({"handler": "maily.email"}, "3 dead letters of maily.email wait for a decision")]}, [4, 16]),
    Case("OrreryOutboxLag", {f'orrery_outbox_oldest_seconds{{producer="autha",{PROCESS}}}': growing(60, 30)},
         {12: [({"producer": "autha"}, "the oldest unpublished message of autha has waited for 720 seconds")]}, [5, 9]),
    Case("OrreryQueueBacklog", {
        'rabbitmq_detailed_queue_messages_ready{queue="maily.email",vhost="/",job="rabbitmq-queues"}': flat(5000, 30),
        'rabbitmq_detailed_queue_messages_ready{queue="maily.email.retry.900000",vhost="/",job="rabbitmq-queues"}': flat(5000, 30),
        'rabbitmq_detailed_queue_messages_ready{queue="partner.acme",vhost="/",job="rabbitmq-queues"}': flat(5000, 30),
    }, {20: [({"queue": "maily.email"}, "5000 messages wait in maily.email")]}, [10]),
    Case("OrreryQueueUnread", {
        'rabbitmq_detailed_queue_messages_ready{queue="maily.email",vhost="/"}': flat(5, 30), 'rabbitmq_detailed_queue_consumers{queue="maily.email",vhost="/"}': steps((1, 5), (0, 25)),
        'rabbitmq_detailed_queue_messages_ready{queue="maily.email.retry.2000",vhost="/"}': flat(5, 30), 'rabbitmq_detailed_queue_consumers{queue="maily.email.retry.2000",vhost="/"}': flat(0, 30),
        # A partner who sleeps wakes nobody here.
        'rabbitmq_detailed_queue_messages_ready{queue="partner.acme",vhost="/"}': flat(5, 30), 'rabbitmq_detailed_queue_consumers{queue="partner.acme",vhost="/"}': flat(0, 30),
        # The archiver is not there either: letters pile up where nobody lists them.
        'rabbitmq_detailed_queue_messages_ready{queue="email.dead",vhost="/"}': flat(1, 30), 'rabbitmq_detailed_queue_consumers{queue="email.dead",vhost="/"}': steps((1, 20), (0, 10)),
    }, {12: [({"queue": "maily.email"}, "maily.email has messages and nobody reads it")],
        27: [({"queue": "maily.email"}, "maily.email has messages and nobody reads it"), ({"queue": "email.dead"}, "email.dead has messages and nobody reads it")]}, [4, 7]),
    Case("OrreryEventsLate", {
        f'orrery_bus_event_age_seconds_bucket{{handler="maily.email",le="300",{PROCESS}}}': flat(0, 40),
        f'orrery_bus_event_age_seconds_bucket{{handler="maily.email",le="900",{PROCESS}}}': growing(10, 40),
        f'orrery_bus_event_age_seconds_bucket{{handler="maily.email",le="+Inf",{PROCESS}}}': growing(10, 40),
    }, {30: [({"handler": "maily.email"}, "one in a hundred events of maily.email is 894 seconds old when its effect is done")]}, [5]),
    Case("OrreryDependencyAway", {f'orrery_bus_deliveries_total{{handler="maily.email",outcome="wait",{PROCESS}}}': "_x4 4x40"},
         {6: [({"handler": "maily.email"}, "what maily.email needs is away, or refuses us")]}, [3, 30]),
    Case("OrreryTriesFail", {f'orrery_bus_deliveries_total{{handler="spinoza.images",outcome="retry",{PROCESS}}}': growing(2, 40)},
         {20: [({"handler": "spinoza.images"}, "30 tries of spinoza.images failed in 15 minutes: each is one from a dead letter")]}, [5]),
    Case("OrrerySlowWork", {
        f'orrery_bus_handling_seconds_bucket{{handler="spinoza.images",le="10",{PROCESS}}}': flat(0, 40),
        f'orrery_bus_handling_seconds_bucket{{handler="spinoza.images",le="30",{PROCESS}}}': growing(10, 40),
        f'orrery_bus_handling_seconds_bucket{{handler="spinoza.images",le="+Inf",{PROCESS}}}': growing(10, 40),
    }, {30: [({"handler": "spinoza.images"}, "one in a hundred deliveries of spinoza.images takes 29.8 seconds")]}, [5]),
    Case("OrreryDoubts", {f'orrery_inbox_doubts_total{{handler="maily.email",{PROCESS}}}': "_x4 1x90"},
         {6: [({"handler": "maily.email"}, "1 effects of maily.email may have happened twice")]}, [3, 80]),
    Case("OrreryQuarantined", {f'orrery_bus_quarantined_total{{handler="spinoza.images",{PROCESS}}}': steps((0, 5), (2, 90))},
         {10: [({"handler": "spinoza.images"}, "2 messages of spinoza.images came back without an answer: one may end processes")]}, [4, 80]),
    Case("OrreryBrokerRefuses", {f'orrery_outbox_refused{{producer="autha",{PROCESS}}}': flat(7, 40)},
         {20: [({"producer": "autha"}, "the broker refuses to keep 7 messages of autha")]}, [10]),
    Case("OrreryPublishFails", {f'orrery_outbox_failed{{producer="autha",{PROCESS}}}': steps((0, 5), (2, 10), (0, 5))},
         {6: [({"producer": "autha"}, "2 messages of autha can never be published as they are")]}, [4, 17]),
    Case("OrreryUnrouted", {f'orrery_outbox_unrouted{{producer="autha",{PROCESS}}}': steps((0, 5), (9, 20), (0, 5))},
         {15: [({"producer": "autha"}, "9 messages of autha have no queue, and one is configured")]}, [7, 27]),
    Case("MailRejected", {f'orrery_mail_outcomes_total{{outcome="rejected",{PROCESS}}}': growing(1, 90), f'orrery_mail_outcomes_total{{outcome="sent",{PROCESS}}}': growing(4, 90)},
         {70: [({}, "60 mails were refused for good within an hour, more than a tenth of all")]}, [4]),
    Case("MailRejected", {f'orrery_mail_outcomes_total{{outcome="rejected",{PROCESS}}}': growing(1, 90), f'orrery_mail_outcomes_total{{outcome="sent",{PROCESS}}}': growing(90, 90)}, {}, [30, 80]),
    Case("MailServerAway", {f'orrery_mail_outcomes_total{{outcome="unreachable",{PROCESS}}}': growing(1, 60), f'orrery_mail_outcomes_total{{outcome="sent",{PROCESS}}}': growing(3, 5) + " 15x55"},
         {45: [({}, "no mail left for 15 minutes: the mail server cannot be reached")]}, [10, 25]),
    Case("PicturesFail", {f'orrery_image_duration_seconds_count{{outcome="failed",{PROCESS}}}': growing(1, 40)},
         {20: [({}, "15 tries to make pictures failed in 15 minutes")]}, [4]),
    Case("RabbitmqNodeDown", {'up{job="rabbitmq",instance="rabbitmq-1:15692"}': steps((1, 5), (0, 20)), 'up{job="rabbitmq",instance="rabbitmq-2:15692"}': flat(1, 25)},
         {12: [({"job": "rabbitmq", "instance": "rabbitmq-1:15692"}, "a node of RabbitMQ is away")]}, [4, 8]),
    # A name that leads nowhere any more leaves no series behind.
    Case("RabbitmqNodeDown", {'up{job="rabbitmq",instance="10.0.0.3:15692"}': "1x9 stale", 'up{job="rabbitmq",instance="10.0.0.4:15692"}': flat(1, 40)},
         {20: [({}, "a node of RabbitMQ is away")]}, [8]),
    Case("RabbitmqNodeDown", {'up{job="rabbitmq",instance="10.0.0.3:15692"}': "1x9 stale"}, {20: [({}, "a node of RabbitMQ is away")]}, [8]),
    Case("RabbitmqAlarm", {
        'rabbitmq_alarms_memory_used_watermark{instance="rabbitmq-1:15692"}': flat(0, 20), 'rabbitmq_alarms_free_disk_space_watermark{instance="rabbitmq-1:15692"}': steps((0, 5), (1, 15)),
    }, {8: [({"instance": "rabbitmq-1:15692"}, "rabbitmq-1:15692 has an alarm: no node takes a message")]}, [4]),
    Case("RabbitmqDiskFills", {
        'rabbitmq_disk_space_available_bytes{instance="rabbitmq-1:15692"}': steps((8e9, 5), (2e9, 25)), 'rabbitmq_disk_space_available_limit_bytes{instance="rabbitmq-1:15692"}': flat(1e9, 30),
    }, {20: [({"instance": "rabbitmq-1:15692"}, "rabbitmq-1:15692 has 2 times the disk left at which RabbitMQ stops taking messages")]}, [4, 12]),
    Case("PostgresqlDown", {'pg_up{instance="postgres-exporter:9187",job="postgres-exporter"}': steps((1, 5), (0, 10)), 'up{instance="postgres-exporter:9187",job="postgres-exporter"}': flat(1, 15)},
         {9: [({"instance": "postgres-exporter:9187"}, "PostgreSQL does not answer its exporter, or that is gone (postgres-exporter:9187)")]}, [4]),
    Case("PostgresqlDown", {'up{instance="postgres-exporter:9187",job="postgres-exporter"}': flat(0, 15)},
         {9: [({"instance": "postgres-exporter:9187", "job": "postgres-exporter"}, "PostgreSQL does not answer its exporter, or that is gone (postgres-exporter:9187)")]}, [1]),
    Case("PostgresqlDown", {'up{instance="10.0.0.9:9187",job="postgres-exporter"}': "1x9 stale"}, {20: [({}, "PostgreSQL does not answer its exporter, or that is gone ()")]}, [8]),
    Case("PostgresqlConnections", {'pg_slots_used{server="db:5432"}': steps((50, 5), (90, 15)), 'pg_slots_limit{server="db:5432"}': flat(97, 20)},
         {12: [({"server": "db:5432"}, "92.78% of PostgreSQL's connections are in use")]}, [4, 7]),
    Case("PostgresqlLongTransaction", {'pg_oldest_transaction_seconds{server="db:5432"}': growing(60, 40)},
         {25: [({"server": "db:5432"}, "a transaction has been open for 1500 seconds: nothing that died since is cleaned up")]}, [10, 17]),
    Case("PostgresqlReplicaLag", {'pg_replicas_lag_seconds{server="db:5432",replica="postgres-2"}': steps((1, 5), (95, 15))},
         {12: [({"server": "db:5432", "replica": "postgres-2"}, "the replica postgres-2 is 95 seconds behind")]}, [4, 7]),
    Case("PostgresqlTransactionIds", {'pg_transaction_ids_age{server="db:5432",datname="orrery"}': flat(1.2e9, 90)},
         {70: [({"server": "db:5432", "datname": "orrery"}, "orrery has 1.2e+09 transactions that are not frozen; at 2 thousand million it stops")]}, [30]),
    Case("DiskFills", {
        'node_filesystem_avail_bytes{job="node",instance="m1:9100",mountpoint="/",fstype="ext4"}': flat(15e9, 30), 'node_filesystem_size_bytes{job="node",instance="m1:9100",mountpoint="/",fstype="ext4"}': flat(100e9, 30),
        'node_filesystem_avail_bytes{job="node",instance="m1:9100",mountpoint="/run",fstype="tmpfs"}': flat(0, 30), 'node_filesystem_size_bytes{job="node",instance="m1:9100",mountpoint="/run",fstype="tmpfs"}': flat(1e9, 30),
    }, {20: [({"job": "node", "instance": "m1:9100", "mountpoint": "/", "fstype": "ext4"}, "15% of / on m1:9100 is free")]}, [10]),
    Case("DiskNearlyFull", {
        'node_filesystem_avail_bytes{job="node",instance="m1:9100",mountpoint="/",fstype="ext4"}': steps((15e9, 10), (5e9, 20)), 'node_filesystem_size_bytes{job="node",instance="m1:9100",mountpoint="/",fstype="ext4"}': flat(100e9, 30),
    }, {20: [({"job": "node", "instance": "m1:9100", "mountpoint": "/", "fstype": "ext4"}, "5% of / on m1:9100 is free")]}, [9, 12]),
    Case("VolumeFills", {
        'kubelet_volume_stats_available_bytes{namespace="orrery",persistentvolumeclaim="data-postgres-0",instance="n1"}': flat(1e9, 20),
        'kubelet_volume_stats_capacity_bytes{namespace="orrery",persistentvolumeclaim="data-postgres-0",instance="n1"}': flat(10e9, 20),
    }, {10: [({"namespace": "orrery", "persistentvolumeclaim": "data-postgres-0"}, "10% of the volume data-postgres-0 is free")]}, [3]),
    Case("CertificateEnds", {f'orrery_gateway_certificate_remaining_seconds{{listener="edge",{PROCESS}}}': flat(864000, 90)},
         {80: [({"instance": "10.0.0.1:8090"}, "the certificate of 10.0.0.1:8090 ends in 10 days")]}, [30]),
    Case("CertificateEndsSoon", {'probe_ssl_earliest_cert_expiry{job="probe",instance="https://id.example.org/health/ready"}': steps((864000, 5), (87000, 5))},
         {10: [({"instance": "https://id.example.org/health/ready"}, "the certificate of https://id.example.org/health/ready ends in 1 days")]}, [4]),
    Case("OrreryUnreachable", {'probe_success{job="probe",instance="https://id.example.org/health/ready"}': steps((1, 5), (0, 10), (1, 5))},
         {8: [({"job": "probe", "instance": "https://id.example.org/health/ready"}, "https://id.example.org/health/ready does not answer from outside")]}, [4, 5, 17]),
    Case("TelemetryDropped", {f'orrery_telemetry_dropped_total{{signal="traces",{PROCESS}}}': growing(100, 40)},
         {30: [({"instance": "10.0.0.1:8090", "signal": "traces"}, "10.0.0.1:8090 loses traces, logs or metrics")]}, [10]),
    Case("TelemetryDropped", {'otelcol_exporter_send_failed_spans_total{exporter="otlp/jaeger",instance="collector:8888"}': growing(100, 40)},
         {30: [({"instance": "collector:8888", "exporter": "otlp/jaeger"}, "collector:8888 loses traces, logs or metrics")]}, [10]),
    Case("RulesFail", {'prometheus_rule_evaluation_failures_total{rule_group="bus",instance="localhost:9090",job="prometheus"}': growing(1, 20)},
         {10: [({"rule_group": "bus", "instance": "localhost:9090", "job": "prometheus"}, "Prometheus cannot evaluate rules: alerts may be missing")]}, [0]),
    Case("AlertsNotDelivered", {'alertmanager_notifications_failed_total{integration="webhook",instance="alertmanager:9093"}': growing(1, 60)},
         {40: [({"integration": "webhook"}, "Alertmanager cannot deliver by webhook")]}, [10]),
    Case("Watchdog", {"nothing": flat(0, 3)}, {0: [({}, "always fires: whoever gets it no more knows that the watch is broken")], 2: [({}, "always fires: whoever gets it no more knows that the watch is broken")]}),
]


def promtool(cases: list[Case]) -> str:
    """The cases as promtool reads them. JSON is YAML."""
    severities = {alert["name"]: alert["severity"] for alert in DEFINITIONS["alerts"]}
    tests = []
    for case in cases:
        expected = [(minute, []) for minute in case.quiet] + list(case.fires.items())
        tests.append({
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
            "alert_rule_test": [{
                "eval_time": f"{minute}m",
                "alertname": case.alert,
                "exp_alerts": [{
                    "exp_labels": {**labels, "severity": severities[case.alert]},
                    "exp_annotations": {"summary": words, "runbook_url": f"{make.RUNBOOKS}/{case.alert}.md"},
                } for labels, words in alerts],
            } for minute, alerts in sorted(expected, key=lambda each: each[0])],
        })
    return json.dumps({"rule_files": [str(file) for file in RULES], "evaluation_interval": "1m", "tests": tests})


def test_promtool_takes_the_rules() -> None:
    tool("promtool", "check", "rules", "--lint=all", "--lint-fatal", *map(str, RULES))


def test_each_alert_fires_and_is_quiet(tmp_path) -> None:
    (tmp_path / "tests.yml").write_text(promtool(CASES))
    tool("promtool", "test", "rules", str(tmp_path / "tests.yml"))


def test_each_alert_has_a_case_for_both() -> None:
    for alert in DEFINITIONS["alerts"]:
        cases = [case for case in CASES if case.alert == alert["name"]]
        assert any(case.fires for case in cases), f"{alert['name']} is never seen to fire"
        assert alert["name"] == "Watchdog" or any(case.quiet for case in cases), f"{alert['name']} is never seen to be quiet"


def test_a_case_that_is_wrong_is_found(tmp_path) -> None:
    """The judge judges: dead letters that are said to be none."""
    (case,) = [case for case in CASES if case.alert == "OrreryDeadLetters"]
    broken = Case(case.alert, {name: values.replace("3x", "0x") for name, values in case.series.items()}, case.fires, case.quiet)
    (tmp_path / "tests.yml").write_text(promtool([broken]))
    try:
        tool("promtool", "test", "rules", str(tmp_path / "tests.yml"))
    except AssertionError:
        return
    raise AssertionError("promtool took a dead letter that is not there")
