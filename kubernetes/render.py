#!/usr/bin/env python3
"""Renders an overlay, or fails when it exposes what it should not: kubernetes/render.py production | kubectl apply -f -

An overlay says in its namespace's annotation orrery.example/exposed what may be reached from outside (workload:port, ...). In staging and
production that is the edge, or nothing at all behind a tunnel. It needs kubectl (kustomize is in it) and PyYAML.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

import reachability
from reachability import Pod, Policies, Port, matches

HERE = Path(__file__).resolve().parent
OVERLAYS = HERE / "overlays"
DECLARED = "orrery.example/exposed"
ENVIRONMENT = "orrery.example/environment"
EDGE = {"gateway-edge:8080"}


class Refused(Exception):
    """The overlay exposes what it should not; the text says what."""


def kubectl() -> str:
    """The program, or the one that the tests fetched."""
    fetched = HERE.parent / ".run" / "kubernetes" / "bin" / "kubectl"
    return os.environ.get("KUBECTL") or (str(fetched) if fetched.exists() else "kubectl")


def load(text: str) -> list[dict]:
    # libyaml's where it was built in: ten times as fast.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [item for item in yaml.load_all(text, Loader=loader) if item]


def build(folder: Path) -> str:
    """What kustomize makes of a folder."""
    done = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(done.stderr.strip())
    return done.stdout


def selected(objects: list[dict], selector: dict[str, str], namespace: str) -> list[Pod]:
    return [
        pod for pod in reachability.pods(objects) if pod.namespace == namespace and matches({"matchLabels": selector}, pod.labels)
    ]


def target_ports(service: dict, pod: Pod, only: str | int | None = None) -> set[int]:
    """The pod's ports behind the service's, or behind that one of them."""
    numbers = set()
    for port in service["spec"].get("ports", []):
        if only is not None and only not in (port.get("name"), port["port"]):
            continue
        target = port.get("targetPort", port["port"])
        numbers |= {each.number for each in pod.ports if target in (each.name, each.number)}
    return numbers


def exposed(objects: list[dict]) -> set[str]:
    """What is reached from outside of the cluster: by a service's type, an ingress, or a port of the host."""
    services = {(item["metadata"].get("namespace", "default"), item["metadata"]["name"]): item for item in objects if item["kind"] == "Service"}
    found: set[str] = set()

    def add(service: dict, namespace: str, only: str | int | None = None) -> None:
        pods = selected(objects, service["spec"].get("selector") or {"no": "selector"}, namespace)
        if not pods:
            found.add(f"{service['metadata']['name']}:?")
        for pod in pods:
            found.update(f"{pod.name}:{number}" for number in target_ports(service, pod, only))

    for (namespace, _), service in services.items():
        spec = service["spec"]
        if spec.get("type") in ("NodePort", "LoadBalancer") or spec.get("externalIPs"):
            add(service, namespace)
    for item in objects:
        namespace = item["metadata"].get("namespace", "default")
        if item["kind"] == "Ingress":
            backends = [path["backend"] for rule in item["spec"].get("rules", []) for path in rule["http"]["paths"]]
            backends += [item["spec"]["defaultBackend"]] if "defaultBackend" in item["spec"] else []
            for backend in backends:
                name, port = backend["service"]["name"], backend["service"]["port"]
                service = services.get((namespace, name))
                if service is None:
                    raise Refused(f"the ingress {item['metadata']['name']} leads to {name}, which is no service here")
                add(service, namespace, port.get("name") or port.get("number"))
        elif item["kind"] in ("Deployment", "StatefulSet", "DaemonSet"):
            spec = item["spec"]["template"]["spec"]
            name = reachability.short_name(item["spec"]["template"]["metadata"]["labels"])
            if spec.get("hostNetwork"):
                found.add(f"{name}:host")
            for container in spec["containers"] + spec.get("initContainers", []):
                found.update(f"{name}:{port['hostPort']}" for port in container.get("ports", []) if "hostPort" in port)
        elif item["kind"] in ("HTTPRoute", "TCPRoute", "Gateway"):
            raise Refused(f"{item['kind']} {item['metadata']['name']}: what it exposes is not known here; use an Ingress, or teach kubernetes/render.py")
    return found


def admits_world(objects: list[dict]) -> set[str]:
    """What the network policies let in from outside of the cluster, or from any namespace of it."""
    policies = Policies(objects)
    others = [other for other in reachability.neighbours() if other.name in ("world", "stranger")]
    return {
        f"{pod.name}:{port}"
        for pod in reachability.pods(objects)
        for port in pod.ports
        if any(policies.allows(pod, "Ingress", other, port) for other in others)
    }


def faults(objects: list[dict]) -> list[str]:
    """What is wrong with the exposure of these objects, a line each."""
    namespaces = [item for item in objects if item["kind"] == "Namespace"]
    if len(namespaces) != 1:
        return ["an overlay has one namespace"]
    labels, annotations = namespaces[0]["metadata"].get("labels", {}), namespaces[0]["metadata"].get("annotations", {})
    declared = set(annotations.get(DECLARED, "").split())
    lines = []
    if labels.get(ENVIRONMENT) not in ("development", "staging", "production"):
        lines.append(f"the namespace has no label {ENVIRONMENT}: development, staging or production")
    if labels.get(ENVIRONMENT) in ("staging", "production") and not declared <= EDGE:
        lines.append(f"in {labels[ENVIRONMENT]} nothing but the edge may be exposed: {DECLARED} has to be {' '.join(EDGE)}")
    found = exposed(objects)
    lines += [f"{each} is reached from outside, and {DECLARED} does not name it" for each in sorted(found - declared)]
    lines += [f"{each} is named by {DECLARED}, and nothing leads there" for each in sorted(declared - found)]
    lines += [f"{each} lets anybody in, and {DECLARED} does not name it" for each in sorted(admits_world(objects) - declared)]
    policies = Policies(objects)
    for pod in reachability.pods(objects):
        for direction in ("Ingress", "Egress"):
            if not policies.of(pod, direction):
                lines.append(f"no network policy selects {pod.name} for {direction}: it is open")
    return lines


def render(folder: Path) -> str:
    """The objects as YAML; fails when they expose what they should not."""
    text = build(folder)
    lines = faults(load(text))
    if lines:
        raise Refused("\n".join(lines))
    return text


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0].startswith("-"):
        names = " ".join(sorted(folder.name for folder in OVERLAYS.iterdir()))
        print(f"usage: kubernetes/render.py OVERLAY    one of {names}, or a folder", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    if not (folder / "kustomization.yaml").exists():
        folder = OVERLAYS / arguments[0]
    try:
        print(render(folder), end="")
    except Refused as refused:
        print(f"{arguments[0]} is not rendered:\n{refused}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
