"""libra's two drawings: an edge proxy, an API proxy over three replicas, apps inside (production) or outside (development)."""

import pytest
from conftest import Layout, layout_of
import reachability


@pytest.fixture(scope="module")
def production() -> set[tuple[str, str, str]]:
    return reachability.table(layout_of("libra-production").objects)


@pytest.fixture(scope="module")
def development() -> set[tuple[str, str, str]]:
    return reachability.table(layout_of("libra-development").objects)


def test_clients_come_in_by_the_edge_alone(production) -> None:
    assert {target for source, target, _ in production if source in ("world", "stranger", "ingress-nginx")} == {"gateway-edge"}


def test_the_edge_leads_to_app1_and_straight_to_the_api(production) -> None:
    assert {(target, port) for source, target, port in production if source == "gateway-edge" and target != "redis"} == {("app1", "3000"), ("autha", "8081")}


def test_apps_call_the_api_by_its_proxy_and_no_other_way(production) -> None:
    for app in ("app1", "app2", "app3"):
        assert {(target, port) for source, target, port in production if source == app} == {("gateway-api", "8080")}
    assert {source for source, target, port in production if target == "gateway-api" and port == "8080"} == {"app1", "app2", "app3"}


def test_apps_do_not_reach_each_other(production) -> None:
    assert {source for source, target, _ in production if target in ("app2", "app3")} == set()
    assert {source for source, target, _ in production if target == "app1"} == {"gateway-edge"}


@pytest.mark.parametrize("name", ["libra-production", "libra-development"])
def test_the_api_has_three_replicas_behind_both_proxies(name: str) -> None:
    layout = layout_of(name)
    assert layout.get("HorizontalPodAutoscaler", "autha")["spec"]["minReplicas"] >= 3
    table = reachability.table(layout.objects)
    assert {source for source, target, port in table if target == "autha" and port == "8081"} == {"gateway-edge", "gateway-api", "console"}


def test_in_production_all_of_it_is_inside() -> None:
    layout = layout_of("libra-production")
    assert {"app1", "app2", "app3"} <= {item["metadata"]["name"] for item in layout.of_kind("Deployment")}
    for name in ("app1", "app2", "app3"):
        assert {"name": "API_URL", "value": "http://gateway-api:8080"} in layout.main(name)["env"]
    assert layout.of_kind("EndpointSlice") == []


def test_in_development_the_apps_are_outside() -> None:
    layout = layout_of("libra-development")
    assert not [item for item in layout.of_kind("Deployment") if item["metadata"]["name"].startswith("app")]
    assert "selector" not in layout.get("Service", "app1")["spec"]
    (slice_object,) = layout.of_kind("EndpointSlice")
    assert slice_object["metadata"]["labels"]["kubernetes.io/service-name"] == "app1"
    assert slice_object["ports"][0]["port"] == layout.get("Service", "app1")["spec"]["ports"][0]["targetPort"]


def test_in_development_the_edge_reaches_app1_outside_and_apps_come_in_by_the_api_proxy(development) -> None:
    assert ("world", "gateway-api", "8080") in development and ("world", "gateway-edge", "8080") in development
    layout = layout_of("libra-development")
    address = next(item for item in layout.of_kind("EndpointSlice"))["endpoints"][0]["addresses"][0]
    (edge,) = [pod for pod in reachability.pods(layout.objects) if pod.name == "gateway-edge"]
    app = reachability.Pod("app1", None, {}, address=address)
    assert reachability.Policies(layout.objects).allows(edge, "Egress", app, reachability.Port(3000))
