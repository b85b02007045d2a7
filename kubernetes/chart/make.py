#!/usr/bin/env python3
"""Makes the chart's objects out of the overlay production and the cluster's: kubernetes/chart/make.py. The chart's one template only applies the values to them.

Objects are sorted into parts, each of which `parts` of the values turns on or off.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import render  # noqa: E402  the folder has to be on the path first
from reachability import matches  # noqa: E402

OBJECTS = HERE / "orrery" / "objects"
OVERLAY = "production"

# By the label app.kubernetes.io/name of an object, or of the pods that it selects.
PARTS = {
    "postgres": "postgres",
    "rabbitmq": "rabbitmq",
    "redis": "redis",
    "postgres-exporter": "exporter",
    "prometheus": "monitoring",
    "alertmanager": "monitoring",
    "grafana": "monitoring",
}
SERVICES = ("gateway", "autha", "spinoza", "maily", "discovery", "console")
BY_NAME = {
    "metrics": "monitoring", "rabbitmq-metrics": "monitoring", "grafana": "monitoring", "grafana-datasources": "monitoring",
    "grafana-providers": "monitoring", "grafana-dashboards": "monitoring",
    "prometheus-to-exporter": "exporter", "postgres-exporter-queries": "exporter",
    "redis": "redis", "rabbitmq": "rabbitmq", "processes": "console",
}


def part(item: dict) -> str:
    """The part that an object belongs to; a service of ours is a part of its own."""
    kind, name = item["kind"], item["metadata"]["name"]
    label = item["metadata"].get("labels", {}).get("app.kubernetes.io/name")
    if kind.startswith("ValidatingAdmissionPolicy"):
        return "admission"
    if kind == "Ingress":
        return "ingress"
    if item["apiVersion"].startswith("monitoring.coreos.com"):
        return "exporter" if label == "postgres-exporter" else "monitoring"
    if kind == "ConfigMap":
        base = name.rsplit("-", 1)[0]
        return BY_NAME.get(base, "gateway" if base == "gateway-edge" else "base")
    if kind == "NetworkPolicy" and name in BY_NAME and name not in ("rabbitmq", "redis", "grafana"):
        return BY_NAME[name]
    if kind == "NetworkPolicy":
        for candidate in (*PARTS, *SERVICES):
            if item["spec"]["podSelector"] and matches(item["spec"]["podSelector"], {"app.kubernetes.io/name": candidate, "app.kubernetes.io/component": "edge"}):
                return "base" if name == "s3-outside" else PARTS.get(candidate, candidate)
        return "base"
    if label in PARTS:
        return PARTS[label]
    if label in SERVICES:
        return label
    raise SystemExit(f"{kind} {name} belongs to no part: name it in kubernetes/chart/make.py")


def made() -> dict[str, str]:
    """The files of the chart's objects, by path."""
    files: dict[str, str] = {}
    for item in render.load(render.render(render.OVERLAYS / OVERLAY)) + render.load(render.build(HERE.parent / "cluster")):
        if item["kind"] == "Namespace":
            continue
        item["metadata"].pop("namespace", None)
        for subject in item.get("subjects", []):
            subject.pop("namespace", None)
        name = item["metadata"]["name"]
        if item["kind"] == "ConfigMap":
            # Helm changes what is in it; a pod is restarted by a digest among its annotations instead of by this name.
            stem, _ = name.rsplit("-", 1)
            name = stem if stem == "environment" else name
        path = f"{part(item)}/{item['kind'].lower()}-{name}.yaml"
        files[path] = yaml.safe_dump(item, sort_keys=True, width=1000)
    return files


def main() -> int:
    files = made()
    shutil.rmtree(OBJECTS, ignore_errors=True)
    for path, text in files.items():
        (OBJECTS / path).parent.mkdir(parents=True, exist_ok=True)
        (OBJECTS / path).write_text(text)
    print(f"{len(files)} objects in {OBJECTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
