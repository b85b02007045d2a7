"""Gravitalia's promise: any part can be left out, and the rest is whole; and the parts that no overlay has, in place."""

import pytest
from conftest import Layout
import reachability
import render

HEAD = """apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: orrery-production
"""
TAIL = """configMapGenerator: [{name: environment, literals: [ORRERY_AUTHA__PUBLIC_URL=https://orrery.example]}]
"""
NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "orrery-production", "labels": {render.ENVIRONMENT: "production"}, "annotations": {render.DECLARED: ""}}}
SERVICES = ["gateway/edge", "autha", "spinoza", "maily"]


def layout_with(scratch, services: list[str], components: list[str]) -> Layout:
    resources = "".join(f"  - ../../base/{each}\n" for each in ["configuration", "policies", *services])
    listed = "".join(f"  - ../../components/{each}\n" for each in components)
    layout = scratch(f"{HEAD}resources:\n{resources}components:\n{listed}{TAIL}")
    layout.objects.insert(0, {**NAMESPACE})
    return layout


# Any peer may come to the edge of the base; an overlay says which. It is no fault of a part that is left out.
def faults(layout: Layout) -> list[str]:
    return [line for line in render.faults(layout.objects) if "gateway-edge:8080 lets anybody in" not in line]


@pytest.mark.parametrize("left_out", SERVICES)
def test_each_service_can_be_left_out(left_out: str, scratch) -> None:
    kept = [each for each in SERVICES if each != left_out]
    layout = layout_with(scratch, kept, ["postgres", "rabbitmq", "redis"])
    assert faults(layout) == []
    name = left_out.split("/")[0]
    assert not [pod for pod in reachability.pods(layout.objects) if pod.name.startswith(name)]
    assert {pod.name.split("-")[0] for pod in reachability.pods(layout.objects)} == {each.split("/")[0] for each in kept} | {"postgres", "rabbitmq", "redis"}


@pytest.mark.parametrize("left_out", ["postgres", "rabbitmq", "redis"])
def test_each_store_can_be_left_out_for_one_outside(left_out: str, scratch) -> None:
    layout = layout_with(scratch, SERVICES, [each for each in ("postgres", "rabbitmq", "redis") if each != left_out])
    assert faults(layout) == []


def test_behind_a_tunnel_no_port_is_open(scratch) -> None:
    """No ingress, no load balancer, no node port: the tunnel calls out, and alone reaches the edge."""
    layout = scratch(f"""{HEAD}resources: [../../base]
components: [../../components/postgres, ../../components/rabbitmq, ../../components/redis, ../../components/tunnel]
patches:
  - target: {{kind: NetworkPolicy, name: gateway-edge}}
    patch: |
      - {{op: replace, path: /spec/ingress, value: [{{from: [{{podSelector: {{matchLabels: {{app.kubernetes.io/name: tunnel}}}}}}], ports: [{{port: 8080}}]}}]}}
{TAIL}""")
    layout.objects.insert(0, {**NAMESPACE})
    assert render.exposed(layout.objects) == set() and render.faults(layout.objects) == []
    table = reachability.table(layout.objects)
    assert {source for source, target, port in table if target == "gateway-edge" and port == "8080"} == {"tunnel"}
    assert {target for source, target, _ in table if source == "tunnel"} == {"gateway-edge", "world"}
    assert not [source for source, _, _ in table if source in ("world", "stranger", "ingress-nginx")]


def test_discovery_logs_users_in_at_autha_and_is_reached_by_the_edge(scratch) -> None:
    """Turms: the app -> discovery (by the edge), discovery -> autha."""
    layout = layout_with(scratch, SERVICES, ["postgres", "rabbitmq", "redis", "discovery", "pod"])
    table = reachability.table(layout.objects)
    assert ("gateway-edge", "discovery", "8083") in table and ("discovery", "autha", "8081") in table


def test_partners_is_reached_by_the_edge_and_the_console_by_nobody(scratch) -> None:
    layout = layout_with(scratch, SERVICES, ["postgres", "rabbitmq", "redis", "partners", "console", "pod"])
    table = reachability.table(layout.objects)
    assert ("gateway-edge", "partners", "8082") in table
    assert not [source for source, target, _ in table if target == "console"]


def test_the_broker_and_the_store_are_reached_as_the_drawing_has_it(scratch) -> None:
    """Autha <-> PostgreSQL, autha -> S3, autha -> broker; spinoza <-> S3 and broker; maily <- broker; the gateway none of them; limits are shared by the gateway and autha."""
    layout = layout_with(scratch, SERVICES, ["postgres", "rabbitmq", "redis", "s3"])
    table = {(source, target) for source, target, port in reachability.table(layout.objects)}
    assert {source for source, target in table if target == "s3"} == {"autha", "spinoza"}
    assert {source for source, target in table if target == "rabbitmq"} == {"autha", "spinoza", "maily", "rabbitmq"}
    assert {source for source, target in table if target == "postgres"} == {"autha", "spinoza", "maily"}
    assert {source for source, target in table if target == "redis"} == {"gateway-edge", "autha"}


def test_the_collector_takes_what_processes_send_and_hands_it_on(scratch) -> None:
    """Process -> collector -> Loki, Jaeger; Prometheus and Grafana read; nobody else reaches any of them."""
    layout = layout_with(scratch, SERVICES, ["postgres", "rabbitmq", "redis", "monitoring", "telemetry"])
    assert faults(layout) == []
    table = set(reachability.table(layout.objects))
    for service in ("gateway-edge", "autha", "spinoza", "maily"):
        assert (service, "collector", "4317") in table
        (container,) = [each for each in layout.pod(service)["containers"] if each["name"] == "orrery"]
        assert {"name": "ORRERY_TELEMETRY__ENDPOINT", "value": "http://collector:4317"} in container["env"]
    assert {("collector", "loki", "3100"), ("collector", "jaeger", "4317"), ("prometheus", "collector", "8889"), ("grafana", "loki", "3100"), ("grafana", "jaeger", "16686")} <= table
    assert {source for source, target, _ in table if target == "collector"} == {"gateway-edge", "autha", "spinoza", "maily", "prometheus"}
    assert {source for source, target, _ in table if target == "loki"} == {"collector", "grafana", "prometheus"}
    assert {source for source, target, _ in table if target == "jaeger"} == {"collector", "grafana"}
    assert {target for source, target, _ in table if source in ("collector", "loki", "jaeger")} == {"loki", "jaeger"}


def test_without_monitoring_nothing_is_sent(scratch) -> None:
    layout = layout_with(scratch, SERVICES, ["postgres", "rabbitmq", "redis"])
    for item in layout.workloads():
        for container in item["spec"]["template"]["spec"]["containers"]:
            assert not [each for each in container.get("env", []) if each["name"].startswith("ORRERY_TELEMETRY")]
