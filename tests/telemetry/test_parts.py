"""The files of each part: taken by its own tool where there is one, otherwise looked at key by key; and that compose and Kubernetes use these files."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from conftest import DEFINITIONS, OBSERVABILITY, ROOT, load, script, tool

PROMETHEUS = load(OBSERVABILITY / "prometheus" / "prometheus.yml")
JOBS = {job["job_name"]: job for job in PROMETHEUS["scrape_configs"]}


def containers() -> dict[str, dict]:
    """Every container of compose by its name, as the files of parts have it."""
    found: dict[str, dict] = {}
    for file in (ROOT / "docker" / "parts").glob("*.yaml"):
        found |= yaml.safe_load(file.read_text()).get("services", {})
    return found


# ---------------------------------------------------------------- Prometheus and Alertmanager


def test_prometheus_takes_its_configuration() -> None:
    tool("promtool", "check", "config", str(OBSERVABILITY / "prometheus" / "prometheus.yml"))
    for name in ("node", "probe"):
        tool("promtool", "check", "config", "--syntax-only", str(OBSERVABILITY / "prometheus" / "prometheus.yml"))
        assert load(OBSERVABILITY / "prometheus" / "targets" / f"{name}.yml") == []


def test_prometheus_asks_containers_that_can_be_there() -> None:
    names = {name for job in JOBS.values() for sd in job.get("dns_sd_configs", []) for name in sd["names"]}
    names |= {name for manager in PROMETHEUS["alerting"]["alertmanagers"] for name in manager["dns_sd_configs"][0]["names"]}
    names.add(re.search(r"replacement: \"?(\w+):9115", (OBSERVABILITY / "prometheus" / "prometheus.yml").read_text())[1])
    assert names <= containers().keys()


def test_every_service_of_ours_is_asked() -> None:
    services = {name for name, one in containers().items() if "serve" in (one.get("command") or [])}
    asked = {name for sd in JOBS["orrery"]["dns_sd_configs"] for name in sd["names"]}
    assert services <= asked and len(services) >= 7


@pytest.mark.parametrize(
    ("profiles", "enabled", "endpoint"),
    [
        ("discovery,telemetry", "true", "http://collector:4317"),
        ("telegraf", "true", "http://telegraf:4317"),
        ("telegraf,telemetry", "true", "http://collector:4317"),
        ("discovery", "false", "http://collector:4317"),
    ],
)
def test_services_send_where_something_takes_it(tmp_path: Path, profiles: str, enabled: str, endpoint: str) -> None:
    docker = tmp_path / "docker"
    docker.mkdir()
    shutil.copy(ROOT / "docker" / "init", docker / "init")
    subprocess.run([docker / "init", "--environment", "staging", "--profiles", profiles], check=True, capture_output=True)
    subprocess.run([docker / "init"], check=True, capture_output=True)  # what was chosen stays
    settings = dict(line.split("=", 1) for line in (docker / ".env").read_text().splitlines() if "=" in line and line[0] != "#")
    assert (settings["TELEMETRY_ENABLED"], settings["TELEMETRY_ENDPOINT"]) == (enabled, endpoint)
    environment = yaml.safe_load((ROOT / "docker" / "parts" / "base.yaml").read_text())["services"]["orrery"]["environment"]
    assert environment["ORRERY_TELEMETRY__ENABLED"] == "${TELEMETRY_ENABLED:-false}"
    assert environment["ORRERY_TELEMETRY__ENDPOINT"].startswith("${TELEMETRY_ENDPOINT:-")
    # And can reach it: each container of ours that serves, where it is a container of its own.
    services = {name: one for name, one in containers().items() if (one.get("command") or [""])[0] == "serve" and name != "orrery"}
    assert len(services) >= 7 and all("telemetry" in one["networks"] for one in services.values())


def test_rules_select_jobs_that_are_there() -> None:
    for text in [alert.get("expr", "") for alert in DEFINITIONS["alerts"]] + [figure["promql"] for figure in DEFINITIONS["figures"].values()]:
        for job in re.findall(r'job="([\w-]+)"', text):
            assert job in JOBS


def test_kubernetes_gives_the_same_jobs_and_labels() -> None:
    monitors = {}
    for file in ("monitoring/monitors.yaml", "postgres-exporter/exporter.yaml", "telemetry/monitors.yaml"):
        for item in yaml.safe_load_all((ROOT / "kubernetes" / "components" / file).read_text()):
            if item["kind"] == "PodMonitor":
                (endpoint,) = item["spec"]["podMetricsEndpoints"]
                added = {each["targetLabel"]: each for each in endpoint["relabelings"]}
                assert added["job"]["replacement"] in JOBS, item["metadata"]["name"]
                monitors[added["job"]["replacement"]] = (endpoint, added)
    assert monitors.keys() == {"orrery", "rabbitmq", "rabbitmq-queues", "postgres-exporter", "collector", "received", "loki"}
    assert "workload" in monitors["orrery"][1]
    for name, (endpoint, _) in monitors.items():
        assert endpoint["path"] == JOBS[name].get("metrics_path", "/metrics")
        assert endpoint.get("params") == JOBS[name].get("params")
        assert endpoint.get("honorLabels") == JOBS[name].get("honor_labels")


def test_the_blackbox_exporter_takes_its_configuration() -> None:
    tool("prometheus-blackbox-exporter", "--config.check", f"--config.file={OBSERVABILITY / 'blackbox' / 'blackbox.yml'}")
    assert JOBS["probe"]["params"]["module"][0] in load(OBSERVABILITY / "blackbox" / "blackbox.yml")["modules"]


RECEIVERS = [
    (["--ntfy", "https://ntfy.example/x"], None),
    (["--mail", "ops@example.org", "--from", "o@example.org", "--smtp", "mail.example.org:587", "--smtp-user", "o"], 'pass"word: #1'),
    (["--webhook", "http://127.0.0.1:9/x", "--ntfy", "https://ntfy.example/x", "--ntfy-pages", "https://ntfy.example/y?a=b", "--watchdog", "https://hc.example/id"], None),
]


@pytest.mark.parametrize(("options", "given"), RECEIVERS, ids=lambda each: str(each)[:20])
def test_alertmanager_takes_what_receivers_writes(options: list[str], given: str | None, tmp_path) -> None:
    written = tool(str(OBSERVABILITY / "alertmanager" / "receivers"), *options, given=given or "")
    (tmp_path / "alertmanager.yml").write_text(written)
    tool("amtool", "check-config", str(tmp_path / "alertmanager.yml"))
    config = yaml.safe_load(written)
    plain = load(OBSERVABILITY / "alertmanager" / "alertmanager.yml")
    assert config["route"] == plain["route"] and config["inhibit_rules"] == plain["inhibit_rules"]
    told = {receiver["name"]: receiver for receiver in config["receivers"]}
    assert all(len(told[name]) > 1 for name in ("page", "ticket"))
    assert given is None or config["global"]["smtp_auth_password"] == given
    if "--ntfy-pages" in options:
        assert "/y?a=b&" in told["page"]["webhook_configs"][0]["url"] and "/x?" in told["ticket"]["webhook_configs"][0]["url"]


@pytest.mark.parametrize("options", [[], ["--mail", "a@example.org"], ["--watchdog", "https://hc.example/x"], ["--ntfy"]], ids=str)
def test_receivers_says_what_is_missing(options: list[str]) -> None:
    with pytest.raises(AssertionError):
        tool(str(OBSERVABILITY / "alertmanager" / "receivers"), *options, given="")


@pytest.mark.parametrize("alert", DEFINITIONS["alerts"], ids=lambda alert: alert["name"])
def test_an_alert_is_told_to_whom_its_severity_says(alert: dict) -> None:
    file = str(OBSERVABILITY / "alertmanager" / "alertmanager.yml")
    told = tool("amtool", "config", "routes", "test", f"--config.file={file}", f"alertname={alert['name']}", f"severity={alert['severity']}").strip()
    assert told == ("watchdog" if alert["name"] == "Watchdog" else alert["severity"])


def test_inhibitions_name_alerts_that_exist() -> None:
    names = {alert["name"] for alert in DEFINITIONS["alerts"]}
    for rule in load(OBSERVABILITY / "alertmanager" / "alertmanager.yml")["inhibit_rules"]:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            assert set(re.split(r"\s*=~?\s*", matcher, maxsplit=1)[1].strip('"').split("|")) <= names, matcher


# ---------------------------------------------------------------- the collector

# The components that are used, with the keys of each that the collector knows (0.115 and later), and in which pipelines they can be.
COMPONENTS = {
    "receivers": {"otlp": ({"protocols"}, "tml"), "prometheus": ({"config"}, "m")},
    "processors": {
        "memory_limiter": ({"check_interval", "limit_percentage", "spike_limit_percentage"}, "tml"),
        "batch": ({"timeout", "send_batch_size", "send_batch_max_size"}, "tml"),
        "attributes": ({"actions", "include", "exclude"}, "tml"),
        "tail_sampling": ({"decision_wait", "num_traces", "expected_new_traces_per_sec", "policies"}, "t"),
        "filter": ({"error_mode", "metrics", "traces", "logs"}, "tml"),
    },
    "exporters": {
        "otlp": ({"endpoint", "tls", "timeout", "sending_queue", "retry_on_failure", "headers", "compression"}, "tml"),
        "otlphttp": ({"endpoint", "tls", "timeout", "sending_queue", "retry_on_failure", "headers", "compression"}, "tml"),
        "prometheus": ({"endpoint", "enable_open_metrics", "resource_to_telemetry_conversion", "metric_expiration", "namespace", "send_timestamps"}, "m"),
    },
    "extensions": {"health_check": ({"endpoint", "path"}, "")},
}


def merged(*names: str) -> dict:
    """Configurations as the collector merges them: maps key by key, everything else as a whole."""
    def merge(one, other):
        if not (isinstance(one, dict) and isinstance(other, dict)):
            return other
        return one | {key: merge(one[key], value) if key in one else value for key, value in other.items()}
    config: dict = {}
    for name in names:
        config = merge(config, load(OBSERVABILITY / "collector" / name))
    return config


FORMS = [("config.yaml",), ("config.yaml", "scrape.yaml")]


@pytest.mark.parametrize("files", FORMS, ids=str)
def test_the_collector_knows_every_component_and_key(files: tuple[str, ...]) -> None:
    config = merged(*files)
    assert config.keys() <= {"receivers", "processors", "exporters", "extensions", "service", "connectors"}
    for kind, known in COMPONENTS.items():
        for name, keys in config.get(kind, {}).items():
            assert name.split("/")[0] in known, f"{kind}: {name}"
            assert (keys or {}).keys() <= known[name.split("/")[0]][0], f"{kind}: {name}: {sorted(keys)}"
    assert set(config["service"]["extensions"]) <= config["extensions"].keys()
    for name, pipeline in config["service"]["pipelines"].items():
        for kind in ("receivers", "processors", "exporters"):
            for each in pipeline[kind]:
                assert each in config[kind], f"the pipeline {name} has no {each}"
                assert name[0] in COMPONENTS[kind][each.split("/")[0]][1], f"{each} is for no {name}"
        assert pipeline["processors"][0] == "memory_limiter", f"{name} is not bounded"
        assert pipeline["processors"][-1] == "batch"
        assert "attributes/people" in pipeline["processors"]
    assert config["service"]["pipelines"].keys() == {"traces", "logs", "metrics"}


@pytest.mark.parametrize("attribute", [
    "client.address", "user_agent.original", "enduser.id", "user.email", "network.peer.address", "url.full", "url.query", "http.request.header.cookie", "db.query.text", "source.address",
])
def test_the_collector_deletes_what_is_about_people(attribute: str) -> None:
    assert any(re.search(action["pattern"], attribute) for action in merged("config.yaml")["processors"]["attributes/people"]["actions"])


@pytest.mark.parametrize("attribute", ["http.request.method", "http.route", "http.response.status_code", "messaging.destination.name", "server.address", "service.name", "url.path", "db.system.name", "user_limit"])
def test_the_collector_keeps_what_says_where_time_went(attribute: str) -> None:
    assert not any(re.search(action["pattern"], attribute) for action in merged("config.yaml")["processors"]["attributes/people"]["actions"])


@pytest.mark.skipif(not shutil.which("otelcol-contrib"), reason="the collector (otelcol-contrib) is not installed: its own check was not asked")
@pytest.mark.parametrize("files", FORMS, ids=str)
def test_the_collector_takes_its_configuration(files: tuple[str, ...]) -> None:
    tool("otelcol-contrib", "validate", *(f"--config={OBSERVABILITY / 'collector' / name}" for name in files))


# ---------------------------------------------------------------- Loki, Grafana, Telegraf


def test_loki_keeps_logs_on_its_volume_and_for_a_time() -> None:
    config = load(OBSERVABILITY / "loki" / "config.yaml")
    assert config["common"]["path_prefix"] == "/loki" and config["compactor"]["retention_enabled"] and config["analytics"] == {"reporting_enabled": False}
    (schema,) = config["schema_config"]["configs"]
    # What OTLP needs.
    assert (schema["store"], schema["schema"]) == ("tsdb", "v13") and config["limits_config"]["allow_structured_metadata"]
    assert config["compactor"]["delete_request_store"] == schema["object_store"]


def test_grafana_asks_containers_and_ports_that_are_there() -> None:
    ports = {"prometheus": 9090, "alertmanager": 9093, "loki": 3100, "jaeger": 16686}
    for source in load(OBSERVABILITY / "grafana" / "provisioning" / "datasources" / "orrery.yaml")["datasources"]:
        host, port = re.fullmatch(r"http://(\w+):(\d+)", source["url"]).groups()
        assert ports[host] == int(port) and host in containers()


def test_telegraf_takes_otlp_and_statsd() -> None:
    config = tomllib.loads((OBSERVABILITY / "telegraf" / "telegraf.conf").read_text())
    assert config["inputs"]["opentelemetry"][0]["service_address"].endswith(":4317")
    assert config["inputs"]["statsd"][0]["service_address"] == ":8125"
    assert config["outputs"]["influxdb_v2"][0].keys() == {"urls", "token", "organization", "bucket"}
    ours = tomllib.loads((OBSERVABILITY / "telegraf" / "orrery.conf").read_text())
    assert ours["inputs"]["prometheus"][0]["urls"] == ["http://127.0.0.1:8090/metrics"]


# ---------------------------------------------------------------- one set of files


def test_compose_mounts_files_that_are_there() -> None:
    mounted = set()
    for name, one in containers().items():
        for volume in one.get("volumes", []):
            source = volume.get("source", "") if isinstance(volume, dict) else volume.split(":")[0]
            source = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", source)
            if "observability/" in source:
                path = (ROOT / "docker" / "parts" / source).resolve()
                assert path.exists(), f"{name}: {source}"
                mounted.add(path.relative_to(OBSERVABILITY).parts[0])
    assert mounted >= {"collector", "prometheus", "alertmanager", "loki", "grafana", "postgres-exporter", "blackbox", "telegraf"}


def test_kubernetes_reads_the_same_files() -> None:
    used = [("monitoring", "grafana"), ("postgres-exporter", "postgres-exporter"), ("telegraf", "telegraf"), ("telemetry", "collector"), ("telemetry", "loki")]
    for component, part in used:
        kustomization = load(ROOT / "kubernetes" / "components" / component / "kustomization.yaml")
        assert f"../../../observability/{part}" in kustomization["components"], component
        generated = load(OBSERVABILITY / part / "kustomization.yaml")["configMapGenerator"]
        for file in (file.split("=")[-1] for each in generated for file in each["files"]):
            assert (OBSERVABILITY / part / file).exists(), f"{part}: {file}"


def test_make_says_what_is_wrong_with_a_dashboard() -> None:
    make = script(OBSERVABILITY / "make")
    with pytest.raises(make.Wrong):
        make.dashboard("x", {"title": "x", "about": "x", "rows": [{"title": "x", "panels": [{"kind": "pie", "title": "x", "expr": "up"}]}]})
