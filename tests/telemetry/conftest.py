"""What the tests of observability/ share: its files, the metrics that the crate defines, and the names in a query."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
OBSERVABILITY = ROOT / "observability"
RUNBOOKS = ROOT / "docs" / "operate" / "runbooks"
sys.dont_write_bytecode = True


def script(path: Path):
    """A script of the repository as a module."""
    loader = importlib.machinery.SourceFileLoader(path.name, str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(path.name, loader))
    loader.exec_module(module)
    return module


make = script(OBSERVABILITY / "make")
DEFINITIONS = make.definitions()


def load(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


def tool(*command: str, given: str | None = None) -> str:
    """Runs a program to its end, which has to be a good one."""
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


# ---------------------------------------------------------------- metrics

UNITS = {"s": "seconds", "By": "bytes"}


def shown(name: str, kind: str, unit: str) -> set[str]:
    """A metric's names at /metrics."""
    name = name.replace(".", "_")
    unit = UNITS.get(unit, "")
    if unit:
        name = f"{name}_{unit}"
    if kind == "Counter":
        return {f"{name}_total"}
    return {f"{name}_bucket", f"{name}_sum", f"{name}_count"} if kind == "Histogram" else {name}


def ours() -> dict[str, set[str]]:
    """Every metric of the crate by its name at /metrics, with its labels, read out of the file that defines them."""
    text = (OBSERVABILITY / "src" / "names.rs").read_text()
    labels = dict(re.findall(r"pub const (\w+): Label =\s*(?:these|named)\(\s*\"([^\"]+)\"", text))
    found: dict[str, set[str]] = {}
    for name, kind, unit, used in re.findall(r"\w+ = \"([^\"]+)\", (Counter|Gauge|Histogram)(?:\(\w+\))?, \"([^\"]*)\", \[([^\]]*)\]", text):
        names = {labels[each.strip()].replace(".", "_") for each in used.split(",") if each.strip()}
        for each in shown(name, kind, unit):
            found[each] = names | ({"le"} if each.endswith("_bucket") else set())
    assert len(found) > 30, "observability/src/names.rs is not read as it is written"
    return found


def exporter_queries() -> set[str]:
    found = set()
    for query, spec in load(OBSERVABILITY / "postgres-exporter" / "queries.yaml").items():
        found |= {f"{query}_{name}" for metric in spec["metrics"] for name, how in metric.items() if how["usage"] != "LABEL"}
    return found


# What others tell: each was seen at /metrics of the program named, in the versions of Debian 12 or of docker/parts.
OTHERS = {
    "Prometheus": {"up", "ALERTS", "prometheus_rule_evaluation_failures_total"},
    "Alertmanager": {"alertmanager_notifications_failed_total"},
    "RabbitMQ": {
        "rabbitmq_alarms_free_disk_space_watermark", "rabbitmq_alarms_memory_used_watermark",
        "rabbitmq_disk_space_available_bytes", "rabbitmq_disk_space_available_limit_bytes", "rabbitmq_process_resident_memory_bytes",
        "rabbitmq_resident_memory_limit_bytes", "rabbitmq_detailed_queue_messages_ready", "rabbitmq_detailed_queue_messages_unacked",
        "rabbitmq_detailed_queue_consumers",
    },
    "postgres_exporter": {"pg_up"},
    "node_exporter": {"node_filesystem_avail_bytes", "node_filesystem_size_bytes"},
    "kubelet": {"kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes"},
    "blackbox_exporter": {"probe_success", "probe_ssl_earliest_cert_expiry"},
}

WORDS = {
    "abs", "and", "avg", "bool", "by", "ceil", "clamp_max", "clamp_min", "count", "group", "group_left", "group_right", "histogram_quantile", "ignoring", "increase",
    "inf", "label_replace", "max", "max_over_time", "min", "min_over_time", "offset", "on", "or", "rate", "sum", "time", "topk", "unless", "vector", "without",
}


def metrics_in(query: str) -> set[str]:
    """The metrics that a query of Prometheus names."""
    rest = re.sub(r'"(?:[^"\\]|\\.)*"', '""', query)
    rest = re.sub(r"\{[^}]*\}", "", rest)
    rest = re.sub(r"\[[^\]]*\]", "", rest)
    rest = re.sub(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", rest)
    rest = re.sub(r"\boffset\s+\w+", "", rest)
    return {word for word in re.findall(r"(?<![\w.])[a-zA-Z_:][\w:]*", rest) if word not in WORDS}


def labels_in(query: str) -> set[tuple[str, str]]:
    """The metrics of a query with the labels that select among their series."""
    found = set()
    for metric, selectors in re.findall(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}", query):
        found |= {(metric, label) for label in re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', selectors)}
    return found


def recorded() -> set[str]:
    return {each["name"] for each in DEFINITIONS["recordings"]}


def known() -> set[str]:
    return set(ours()) | exporter_queries() | set().union(*OTHERS.values()) | recorded()
