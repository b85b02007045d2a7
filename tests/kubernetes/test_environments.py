"""Astra+'s environments, and what the other documents say of production: the three overlays differ in exposure and size alone."""

import copy
import re
import tomllib

import pytest
from conftest import KUBERNETES, ROOT, Layout, layout_of, ours
import make_secrets
import reachability
import render
import test_schemas

ENVIRONMENTS = ("development", "staging", "production")


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_each_environment_has_prometheus_grafana_and_alertmanager(name: str) -> None:
    layout = layout_of(name)
    layout.get("Prometheus", "prometheus")
    layout.get("Alertmanager", "alertmanager")
    layout.get("Deployment", "grafana")
    assert layout.get("Prometheus", "prometheus")["spec"]["alerting"]["alertmanagers"] == [{"name": "alertmanager", "port": "http"}]
    held = {item["metadata"]["name"].rsplit("-", 1)[0]: item["data"] for item in layout.of_kind("ConfigMap") if item["metadata"]["name"].startswith("grafana")}
    assert "http://prometheus:9090" in held["grafana-datasources"]["orrery.yaml"]
    dashboards = {file.name for file in (ROOT / "observability/grafana/dashboards").glob("*.json")}
    assert held["grafana-dashboards"].keys() == dashboards


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_prometheus_reaches_what_it_monitors(name: str) -> None:
    layout = layout_of(name)
    table = reachability.table(layout.objects)
    for item in layout.of_kind("PodMonitor"):
        for pod in reachability.pods(layout.objects):
            if reachability.matches(item["spec"]["selector"], pod.labels):
                wanted = item["spec"]["podMetricsEndpoints"][0]["port"]
                (port,) = [each for each in pod.ports if each.name == wanted]
                assert ("prometheus", pod.name, str(port)) in table
        labels = {"app.kubernetes.io/part-of": "orrery-monitoring"}.items()
        assert labels <= item["metadata"]["labels"].items()
    monitored = {"orrery", "rabbitmq", "rabbitmq-queues"} | ({"postgres-exporter"} if name == "production" else set())
    assert {item["metadata"]["name"] for item in layout.of_kind("PodMonitor")} == monitored


def test_the_exporter_is_in_production_alone() -> None:
    for name in ENVIRONMENTS:
        names = {item["metadata"]["name"] for item in layout_of(name).of_kind("Deployment")}
        assert ("postgres-exporter" in names) == (name == "production")
    assert ("postgres-exporter", "postgres", "5432") in reachability.table(layout_of("production").objects)


EXPOSED = {
    "development": {"gateway-edge:8080", "autha:8081", "postgres:5432"},
    "staging": {"gateway-edge:8080"},
    "production": {"gateway-edge:8080"},
    "libra-production": {"gateway-edge:8080"},
    "libra-development": {"gateway-edge:8080", "gateway-api:8080"},
    "layer8": {"gateway-forward:6191", "autha:5001", "postgres:5432", "influxdb:8086"},
}


@pytest.mark.parametrize("name", EXPOSED)
def test_what_is_exposed(name: str) -> None:
    assert render.exposed(layout_of(name).objects) == EXPOSED[name]


def test_development_has_a_load_balancer_each() -> None:
    layout = layout_of("development")
    balanced = {item["metadata"]["name"] for item in layout.of_kind("Service") if item["spec"].get("type") == "LoadBalancer"}
    assert balanced == {"gateway-edge", "autha", "postgres"} and layout.of_kind("Ingress") == []


def test_staging_has_one_load_balancer() -> None:
    layout = layout_of("staging")
    balanced = {item["metadata"]["name"] for item in layout.of_kind("Service") if item["spec"].get("type", "ClusterIP") != "ClusterIP"}
    assert balanced == {"gateway-edge"} and layout.of_kind("Ingress") == []


def test_production_is_reached_by_the_ingress_alone_over_tls() -> None:
    layout = layout_of("production")
    assert {item["spec"].get("type", "ClusterIP") for item in layout.of_kind("Service")} == {"ClusterIP"}
    (ingress,) = layout.of_kind("Ingress")
    hosts = {rule["host"] for rule in ingress["spec"]["rules"]}
    assert {host for entry in ingress["spec"]["tls"] for host in entry["hosts"]} == hosts
    assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/ssl-redirect"] == "true"
    table = reachability.table(layout.objects)
    assert {(source, port) for source, target, port in table if target == "gateway-edge"} == {("ingress-nginx", "8080"), ("prometheus", "8090"), ("console", "8090")}


@pytest.mark.parametrize("name", ["staging", "production", "libra-production"])
def test_backend_and_database_are_hidden(name: str) -> None:
    table = reachability.table(layout_of(name).objects)
    for source, target, _ in table:
        if source in ("world", "stranger", "ingress-nginx"):
            assert target == "gateway-edge"
        if target == "postgres":
            assert source in ("autha", "spinoza", "maily", "discovery", "console", "postgres-exporter")


@pytest.mark.parametrize("name", [*ENVIRONMENTS, "libra-development", "libra-production"])
def test_the_console_is_a_deployment_of_its_own_that_nobody_reaches(name: str) -> None:
    """Operators come in by kubectl port-forward, which asks the API and no policy; Prometheus reads its figures where it is installed."""
    layout = layout_of(name)
    assert layout.main("console")["args"] == ["serve", "console"]
    assert {item["metadata"]["name"] for item in layout.workloads() for each in ours(item["spec"]["template"]["spec"]) if "console" in each["args"]} == {"console"}
    assert not [each for each in render.exposed(layout.objects) if each.startswith("console")]
    reached = {(source, port) for source, target, port in reachability.table(layout.objects) if target == "console"}
    assert reached == ({("prometheus", "8090")} if name in ENVIRONMENTS else set())
    # Its queues and its schema are there, since the services' names are in one list.
    (environment,) = [item["data"] for item in layout.of_kind("ConfigMap") if item["metadata"]["name"].startswith("environment")]
    services = {each["args"][1] for item in layout.workloads() for each in ours(item["spec"]["template"]["spec"]) if each["args"][0] == "serve"}
    assert set(environment["ORRERY_SERVICES"].split(",")) == services


@pytest.mark.parametrize("name", [*ENVIRONMENTS, "libra-development", "libra-production"])
def test_the_console_asks_every_other_process(name: str) -> None:
    """By a Service of the internal port, for each deployment of the binary's services; and policies let it, there and nowhere else at that port."""
    layout = layout_of(name)
    (environment,) = [item["data"] for item in layout.of_kind("ConfigMap") if item["metadata"]["name"].startswith("environment")]
    asked = {re.fullmatch(r"http://([a-z-]+):8090", each)[1] for each in environment["ORRERY_CONSOLE__PROCESSES"].split(",")}
    behind = {}
    for each in asked:
        spec = layout.get("Service", each)["spec"]
        # The name stands for every replica, also one that is not ready: that is what an operator looks for.
        assert spec["clusterIP"] == "None" and spec["publishNotReadyAddresses"] and [port["port"] for port in spec["ports"]] == [8090]
        (behind[each],) = [pod.name for pod in render.selected(layout.objects, spec["selector"], layout.get("Service", each)["metadata"]["namespace"])]
    serving = {item["metadata"]["name"]: item for item in layout.of_kind("Deployment") for each in ours(item["spec"]["template"]["spec"]) if each["args"][0] == "serve"}
    others = {reachability.short_name(item["spec"]["template"]["metadata"]["labels"]) for item in serving.values()} - {"console"}
    assert set(behind.values()) == others and len(behind) == len(others)
    table = reachability.table(layout.objects)
    assert {target for source, target, port in table if (source, port) == ("console", "8090")} == others
    assert {source for source, _, port in table if port == "8090"} <= {"console", "prometheus"}


@pytest.mark.parametrize("name", EXPOSED)
def test_who_calls(name: str) -> None:
    """Callers are told apart. Where they reach a pod by a load balancer or a node port, they keep their address and nobody is believed; where the
    ingress controller stands before it, the controller is believed, and nobody else is let in there."""
    layout = layout_of(name)
    for item in layout.of_kind("Service"):
        if item["spec"].get("type", "ClusterIP") != "ClusterIP":
            assert item["spec"]["externalTrafficPolicy"] == "Local", item["metadata"]["name"]
    table = reachability.table(layout.objects)
    for item in layout.of_kind("Deployment"):
        container = item["spec"]["template"]["spec"]["containers"][0]
        pod = reachability.short_name(item["spec"]["template"]["metadata"]["labels"])
        if "gateway" not in container.get("args", []) or name == "layer8":
            continue
        lists = [tomllib.loads(f"x = {each['value']}".replace("\n", " "))["x"] for each in container["env"] if each["name"] == "ORRERY_GATEWAY__LISTENERS"]
        trusted = [network for listeners in lists for each in listeners for network in each.get("trusted", [])]
        callers = {source for source, target, port in table if (target, port) == (pod, "8080")}
        if trusted:
            assert callers == {"ingress-nginx"}
        assert bool(trusted) == (callers == {"ingress-nginx"}), (pod, callers)


def test_external_secrets_are_all_that_production_refers_to(scratch) -> None:
    """The keys of our services' secrets, by name; those of other programs are these programs' own."""
    component = scratch("""apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
components: [../../components/external-secrets]
""")
    made = {item["spec"]["target"]["name"]: {each["secretKey"] for each in item["spec"]["data"]} for item in component.of_kind("ExternalSecret")}
    wanted = {name: keys for name, keys in make_secrets.references(layout_of("production").objects).items() if name in {"migrate", *layout_services("production")}}
    assert made == wanted
    guide = (KUBERNETES.parent / "docs" / "kubernetes.md").read_text()
    for name, keys in wanted.items():
        (row,) = [line for line in guide.splitlines() if line.startswith(f"| `{name}` | `")]
        assert keys <= set(re.findall(r"`([a-z-]+)`", row)), row


def layout_services(name: str) -> set[str]:
    return {item["metadata"]["name"] for item in layout_of(name).of_kind("Deployment") if ours(item["spec"]["template"]["spec"])}


def test_environments_differ_in_exposure_and_size_alone() -> None:
    """The same workloads, policies and configuration; by name: S3 is outside but in development, the exporter and the ingress are production's."""
    own = {"development": {"s3"}, "staging": {"s3-outside"}, "production": {"s3-outside", "postgres-exporter", "prometheus-to-exporter", "orrery"}}

    def shape(name: str) -> dict:
        found = {}
        for item in layout_of(name).objects:
            if item["kind"] == "ConfigMap" and item["metadata"]["name"].startswith("postgres-exporter-queries") and name == "production":
                continue
            if item["metadata"]["name"] in own[name] and item["kind"] in ("Deployment", "StatefulSet", "Service", "ServiceAccount", "NetworkPolicy", "PodMonitor", "Ingress") and not (item["kind"] == "PodMonitor" and item["metadata"]["name"] == "orrery"):
                continue
            item = copy.deepcopy(item)
            label = item["metadata"]["name"].rsplit("-", 1)[0] if item["kind"] == "ConfigMap" else item["metadata"]["name"]
            if item["kind"] == "Namespace" or (item["kind"] == "ConfigMap" and label == "environment"):
                continue
            item["metadata"].pop("namespace", None)
            item["metadata"]["name"] = label
            spec = item.get("spec", {})
            for key in ("replicas", "minReplicas", "maxReplicas", "type", "externalTrafficPolicy"):
                spec.pop(key, None)
            for claim in spec.get("volumeClaimTemplates", []):
                claim["spec"].pop("resources")
            if item["kind"] == "NetworkPolicy" and item["metadata"]["name"] in ("autha", "postgres", "gateway-edge"):
                spec.pop("ingress")
            template = spec.get("template", {}).get("spec", {})
            for container in template.get("containers", []) + template.get("initContainers", []):
                container.pop("resources")
                container["image"] = container["image"].split(":")[0]
                # Whose word on a caller's address is taken follows from the exposure: test_who_calls.
                container["env"] = [each for each in container.get("env", []) if each["name"] != "ORRERY_GATEWAY__LISTENERS"]
                for each in container.get("envFrom", []):
                    each.pop("configMapRef", None)
            for subject in item.get("subjects", []):
                subject.pop("namespace", None)
            found[item["kind"], label] = item
        return found

    development, staging, production = (shape(name) for name in ENVIRONMENTS)
    assert development == staging == production


BREAKS = {
    "a database behind a load balancer": lambda objects: service(objects, "postgres").update(type="LoadBalancer"),
    "autha behind a node port": lambda objects: service(objects, "autha").update(type="NodePort"),
    "an external address": lambda objects: service(objects, "rabbitmq").update(externalIPs=["203.0.113.9"]),
    "a port of the host": lambda objects: pod(objects, "maily")["containers"][0]["ports"].append({"containerPort": 9, "hostPort": 9}),
    "the host's network": lambda objects: pod(objects, "spinoza").update(hostNetwork=True),
    "an ingress to autha": lambda objects: objects.append(ingress("autha")),
    "a policy that lets anybody in": lambda objects: policy(objects, "autha")["ingress"].append({"ports": [{"port": 8081}]}),
    "no policy that denies": lambda objects: objects.remove(next(item for item in objects if item["kind"] == "NetworkPolicy" and item["metadata"]["name"] == "deny")),
    "a declaration of more": lambda objects: namespace(objects)["annotations"].update({render.DECLARED: "gateway-edge:8080 autha:8081"}),
    "no environment": lambda objects: namespace(objects)["labels"].pop(render.ENVIRONMENT),
}


def service(objects: list[dict], name: str) -> dict:
    return next(item for item in objects if item["kind"] == "Service" and item["metadata"]["name"] == name)["spec"]


def pod(objects: list[dict], name: str) -> dict:
    return next(item for item in objects if item["kind"] == "Deployment" and item["metadata"]["name"] == name)["spec"]["template"]["spec"]


def policy(objects: list[dict], name: str) -> dict:
    return next(item for item in objects if item["kind"] == "NetworkPolicy" and item["metadata"]["name"] == name)["spec"]


def namespace(objects: list[dict]) -> dict:
    return next(item for item in objects if item["kind"] == "Namespace")["metadata"]


def ingress(name: str) -> dict:
    backend = {"service": {"name": name, "port": {"name": "http"}}}
    rule = {"host": "x.example", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "x", "namespace": "orrery-production"}, "spec": {"rules": [rule]}}


@pytest.mark.parametrize("name", ["staging", "production"])
@pytest.mark.parametrize("what", BREAKS)
def test_rendering_fails_with(what: str, name: str) -> None:
    objects = copy.deepcopy(layout_of(name).objects)
    assert render.faults(objects) == []
    BREAKS[what](objects)
    for item in objects:
        item["metadata"].setdefault("namespace", f"orrery-{name}") if item["kind"] not in ("Namespace",) else None
        if item["kind"] == "Ingress" and item["metadata"]["name"] == "x":
            item["metadata"]["namespace"] = f"orrery-{name}"
    assert render.faults(objects) != []


def test_the_command_prints_nothing_and_fails(scratch, capsys) -> None:
    layout = scratch("""apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../staging]
patches:
  - target: {kind: Service, name: postgres}
    patch: |
      - {op: add, path: /spec/type, value: NodePort}
""")
    assert render.main([str(KUBERNETES / "overlays" / layout.name)]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and "postgres:5432 is reached from outside" in printed.err


@pytest.mark.parametrize("name", ["staging", "production", "libra-production"])
def test_the_cluster_refuses_it_too(name: str) -> None:
    """An admission policy stands in the way of what is not rendered by render.py."""
    cluster = Layout("cluster", render.load(render.build(KUBERNETES / "cluster")))
    (policy_object,) = cluster.of_kind("ValidatingAdmissionPolicy")
    assert policy_object["spec"]["failurePolicy"] == "Fail"
    resources = {each for rule in policy_object["spec"]["matchConstraints"]["resourceRules"] for each in rule["resources"]}
    assert resources == {"services", "ingresses"}
    (binding,) = cluster.of_kind("ValidatingAdmissionPolicyBinding")
    assert binding["spec"]["policyName"] == policy_object["metadata"]["name"] and binding["spec"]["validationActions"] == ["Deny"]
    (expression,) = binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
    (namespace_object,) = layout_of(name).of_kind("Namespace")
    assert namespace_object["metadata"]["labels"][expression["key"]] in expression["values"]
    assert test_schemas.validate(cluster) == []
    # What belongs to no namespace is in no overlay: kustomize would give it one.
    assert all("namespace" not in item["metadata"] for item in cluster.objects)


CLUSTER_WIDE = {"Namespace", "ClusterRole", "ClusterRoleBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "CustomResourceDefinition", "StorageClass", "PersistentVolume"}


def test_overlays_hold_nothing_cluster_wide_but_their_namespace(layout: Layout) -> None:
    assert {item["kind"] for item in layout.objects} & CLUSTER_WIDE == {"Namespace"}
    (namespace_object,) = layout.of_kind("Namespace")
    assert {item["metadata"].get("namespace") for item in layout.objects if item["kind"] != "Namespace"} == {namespace_object["metadata"]["name"]}
