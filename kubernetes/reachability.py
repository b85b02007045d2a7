"""Who can reach whom: computed from the pods and the network policies of rendered objects. What may be exposed is decided in render.py."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

# An address that is nobody's (RFC 5737): stands for the world outside.
WORLD = "203.0.113.7"

# Pods that other namespaces bring along, and that policies name.
NEIGHBOURS = {
    "ingress-nginx": ("ingress-nginx", {"app.kubernetes.io/name": "ingress-nginx"}),
    "stranger": ("stranger", {"app.kubernetes.io/name": "stranger"}),
}

DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True)
class Port:
    """A port of a pod."""

    number: int
    protocol: str = "TCP"
    name: str = ""

    def __str__(self) -> str:
        return str(self.number) if self.protocol == "TCP" else f"{self.number}/{self.protocol.lower()}"


@dataclass
class Pod:
    """The pods of one workload; without labels and namespace the world outside."""

    name: str
    namespace: str | None
    labels: dict[str, str]
    ports: list[Port] = field(default_factory=list)
    address: str | None = None


def short_name(labels: dict[str, str]) -> str:
    """What a workload is called in tables: name, role, app and provider."""
    parts = [labels.get("app.kubernetes.io/name", "?"), labels.get("app.kubernetes.io/component")]
    if "app" in labels:
        parts = [labels["app"]]
    parts.append(labels.get("sp-id"))
    return "-".join(part for part in parts if part)


def pods(objects: list[dict]) -> list[Pod]:
    """One for each workload of the objects, Prometheus and AlertManager by their operator among them."""
    found = []
    for item in objects:
        namespace = item["metadata"].get("namespace", DEFAULT_NAMESPACE)
        if item["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
            template = item["spec"]["template"]
            labels = template["metadata"].get("labels", {})
            containers = template["spec"].get("initContainers", []) + template["spec"]["containers"]
            ports = [
                Port(port["containerPort"], port.get("protocol", "TCP"), port.get("name", ""))
                for container in containers
                for port in container.get("ports", [])
            ]
            found.append(Pod(short_name(labels), namespace, labels, ports))
        elif item["kind"] in ("Prometheus", "Alertmanager"):
            labels = item["spec"]["podMetadata"]["labels"]
            port = 9090 if item["kind"] == "Prometheus" else 9093
            found.append(Pod(short_name(labels), namespace, labels, [Port(port, name="web")]))
    return found


def neighbours() -> list[Pod]:
    """Whoever is not of these objects."""
    others = [Pod(name, namespace, labels) for name, (namespace, labels) in NEIGHBOURS.items()]
    return others + [Pod("world", None, {}, address=WORLD)]


def matches(selector: dict | None, labels: dict[str, str]) -> bool:
    """Whether a label selector takes these labels; an empty one takes all."""
    selector = selector or {}
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for wanted in selector.get("matchExpressions", []):
        value, operator = labels.get(wanted["key"]), wanted["operator"]
        held = {
            "In": lambda: value in wanted["values"],
            "NotIn": lambda: value not in wanted["values"],
            "Exists": lambda: value is not None,
            "DoesNotExist": lambda: value is None,
        }[operator]()
        if not held:
            return False
    return True


def is_peer(peer: dict, other: Pod, namespace: str) -> bool:
    """Whether a rule's peer is that pod, for a policy of `namespace`."""
    if "ipBlock" in peer:
        if other.address is None:
            return False
        address = ipaddress.ip_address(other.address)
        block = ipaddress.ip_network(peer["ipBlock"]["cidr"])
        excepted = [ipaddress.ip_network(each) for each in peer["ipBlock"].get("except", [])]
        return address.version == block.version and address in block and not any(address in each for each in excepted)
    if other.namespace is None:
        return False
    if "namespaceSelector" in peer:
        if not matches(peer["namespaceSelector"], {"kubernetes.io/metadata.name": other.namespace}):
            return False
    elif other.namespace != namespace:
        return False
    return matches(peer.get("podSelector"), other.labels)


def takes_port(rule: dict, port: Port) -> bool:
    """Whether a rule is about that port; one that names none is about all."""
    ports = rule.get("ports")
    if not ports:
        return True
    for each in ports:
        if each.get("protocol", "TCP") != port.protocol:
            continue
        number = each.get("port")
        if number is None or number in (port.number, port.name):
            return True
        if isinstance(number, int) and number <= port.number <= each.get("endPort", number):
            return True
    return False


class Policies:
    """The network policies of the objects."""

    def __init__(self, objects: list[dict]):
        self.all = [item for item in objects if item["kind"] == "NetworkPolicy"]

    def of(self, pod: Pod, direction: str) -> list[dict]:
        """Those that select the pod for Ingress or Egress."""
        return [
            policy
            for policy in self.all
            if policy["metadata"].get("namespace", DEFAULT_NAMESPACE) == pod.namespace
            and matches(policy["spec"].get("podSelector"), pod.labels)
            and direction in policy["spec"].get("policyTypes", ["Ingress"])
        ]

    def allows(self, pod: Pod, direction: str, other: Pod, port: Port) -> bool:
        """Whether the policies of the pod let that in, or out. A pod that no policy selects is open."""
        selecting = self.of(pod, direction)
        if not selecting or pod.namespace is None:
            return True
        key, peers = ("ingress", "from") if direction == "Ingress" else ("egress", "to")
        return any(
            takes_port(rule, port)
            and (not rule.get(peers) or any(is_peer(peer, other, pod.namespace) for peer in rule[peers]))
            for policy in selecting
            for rule in policy["spec"].get(key) or []
        )


def table(objects: list[dict]) -> set[tuple[str, str, str]]:
    """Every (from, to, port) that the policies allow, the world outside at both ends."""
    policies, inside = Policies(objects), pods(objects)
    found = set()
    for target in inside:
        for source in inside + neighbours():
            if source is target and len(target.ports) == 0:
                continue
            for port in target.ports:
                leaves = source.name in ("world", *NEIGHBOURS) or policies.allows(source, "Egress", target, port)
                if leaves and policies.allows(target, "Ingress", source, port):
                    found.add((source.name, target.name, str(port)))
    world = neighbours()[-1]
    for source in inside:
        for port in (Port(25), Port(53, "UDP"), Port(80), Port(443), Port(465), Port(587), Port(3000), Port(5432), Port(6443)):
            if policies.allows(source, "Egress", world, port):
                found.add((source.name, "world", str(port)))
    return found
