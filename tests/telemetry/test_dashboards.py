"""Dashboards: made of today's panels, asking only for metrics and labels that exist, of sources that are provisioned."""

import json
import re

import pytest
from conftest import OBSERVABILITY, known, labels_in, load, metrics_in, ours

DASHBOARDS = {file.stem: json.loads(file.read_text()) for file in sorted((OBSERVABILITY / "grafana" / "dashboards").glob("*.json"))}
PANELS = [(name, panel) for name, dashboard in DASHBOARDS.items() for panel in dashboard["panels"] if panel["type"] != "row"]
TARGET = {"job", "instance", "workload"}
# Labels of what Prometheus' rules record.
RECORDED = {"orrery:bus_event_age_seconds:p99_5m": {"handler"}, "orrery:bus_deliveries:rate5m": {"handler", "outcome"}, "orrery:outbox_relayed:rate5m": {"producer", "result"}}


def test_there_is_one_for_system_bus_accounts_images_mail_partners_and_peers() -> None:
    assert DASHBOARDS.keys() == {"system", "bus", "accounts", "images", "mail", "partners", "peers"}
    for name, dashboard in DASHBOARDS.items():
        assert dashboard["uid"] == f"orrery-{name}"
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(ids) == len(set(ids))


@pytest.mark.parametrize(("name", "panel"), PANELS, ids=[f"{name}: {panel['title']}" for name, panel in PANELS])
def test_a_panel_asks_for_what_exists(name: str, panel: dict) -> None:
    for target in panel["targets"]:
        if target["datasource"]["type"] != "prometheus":
            continue
        names = metrics_in(target["expr"])
        assert names, f"{target['expr']} names no metric"
        assert names - known() == set()
        for metric, label in labels_in(target["expr"]):
            labels = ours().get(metric, RECORDED.get(metric))
            assert labels is None or label in labels | TARGET, f"{metric} has no label {label}"
        # A label in the legend is one that is left by the query.
        for label in re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")):
            by = set(re.findall(r"\w+", " ".join(re.findall(r"\bby \(([^)]*)\)", target["expr"]))))
            kept = by or set().union(*(ours().get(metric, RECORDED.get(metric, {label})) for metric in names)) | TARGET
            assert label in kept, f"{panel['title']}: {{{{{label}}}}} is in no series of {target['expr']}"


def test_panels_do_not_overlap() -> None:
    for name, dashboard in DASHBOARDS.items():
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            place = panel["gridPos"]
            cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
            assert not cells & taken and place["x"] + place["w"] <= 24, f"{name}: {panel['title']}"
            taken |= cells


def test_every_source_of_a_panel_is_provisioned() -> None:
    sources = {each["uid"]: each["type"] for each in load(OBSERVABILITY / "grafana" / "provisioning" / "datasources" / "orrery.yaml")["datasources"]}
    for _, panel in PANELS:
        assert sources[panel["datasource"]["uid"]] == panel["datasource"]["type"]


def test_every_metric_of_ours_is_shown_or_watched() -> None:
    """A metric that nobody looks at is one that nobody misses."""
    text = "".join(json.dumps(dashboard) for dashboard in DASHBOARDS.values())
    text += "".join(file.read_text() for file in (OBSERVABILITY / "prometheus" / "rules").glob("*.yml"))
    unseen = {re.sub(r"_(bucket|sum|count)$", "", name) for name in ours() if name not in text}
    seen = {re.sub(r"_(bucket|sum|count)$", "", name) for name in ours() if name in text}
    assert unseen - seen == set()
