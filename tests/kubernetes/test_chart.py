"""The Helm chart: the same objects as the overlay production, changed by values and nothing else, and it refuses what render.py refuses."""

import subprocess
import sys

import pytest
import yaml
from conftest import HELM, KUBERNETES, Layout, layout_of
import render
import test_schemas

CHART = KUBERNETES / "chart" / "orrery"
ALL = [f"parts.{part}=true" for part in ("monitoring", "exporter", "admission")]

sys.path.insert(0, str(KUBERNETES / "chart"))
import make  # noqa: E402  the folder has to be on the path first


def helm(*settings: str, values: dict | None = None, namespace: str = "orrery-production") -> Layout:
    arguments = [str(HELM), "template", "orrery", str(CHART), "--namespace", namespace, "--kube-version", "1.33.0"]
    for setting in settings:
        arguments += ["--set", setting]
    done = subprocess.run([*arguments, *(["--values", "-"] if values else [])], input=yaml.safe_dump(values) if values else None, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return Layout("chart", render.load(done.stdout))


def plain(item: dict) -> dict:
    """Without what differs by design: the name of the config map `environment`, whose digest is an annotation in the chart."""
    text = yaml.safe_dump(item)
    (environment,) = [each["metadata"]["name"] for each in layout_of("production").of_kind("ConfigMap") if each["metadata"]["name"].startswith("environment")]
    return yaml.safe_load(text.replace(environment, "environment"))


def test_the_objects_of_the_chart_are_those_of_today() -> None:
    """Otherwise run kubernetes/chart/make.py."""
    here = {str(file.relative_to(make.OBJECTS)): file.read_text() for file in make.OBJECTS.rglob("*.yaml")}
    assert here == make.made()


def test_the_chart_renders_the_overlay_production() -> None:
    cluster = render.load(render.build(KUBERNETES / "cluster"))
    wanted = {(item["kind"], item["metadata"]["name"]): item for item in map(plain, layout_of("production").objects + cluster) if item["kind"] != "Namespace"}
    found = {(item["kind"], item["metadata"]["name"]): item for item in map(plain, helm(*ALL).objects)}
    assert set(found) == set(wanted)
    for key, item in wanted.items():
        assert found[key] == item, key


def test_rendered_charts_are_valid() -> None:
    assert test_schemas.validate(helm(*ALL)) == []
    assert test_schemas.validate(helm()) == []


def with_namespace(layout: Layout, environment: str = "production") -> list[dict]:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "orrery-production", "labels": {render.ENVIRONMENT: environment}, "annotations": {render.DECLARED: "gateway-edge:8080"}}}
    return [namespace, *layout.objects]


def test_by_default_the_edge_alone_is_exposed() -> None:
    assert render.faults(with_namespace(helm())) == []


def test_values_change_what_they_say() -> None:
    layout = helm(values={
        "host": "accounts.example.org", "tlsSecret": "mine", "ingressClass": "traefik", "storageClass": "fast",
        "image": {"repository": "registry.example/orrery", "digest": "sha256:" + "0" * 64}, "images": {"postgres": "registry.example/postgres:17"},
        "pullSecrets": ["registry"], "settings": {"ORRERY_STORAGE__ENDPOINT": "https://s3.example", "ORRERY_SPINOZA__CONCURRENCY": 4},
        "patches": {"HorizontalPodAutoscaler/autha": {"spec": {"maxReplicas": 20}}, "Deployment/spinoza": {"spec": {"replicas": 5}}},
    })
    (ingress,) = layout.of_kind("Ingress")
    assert ingress["spec"]["rules"][0]["host"] == "accounts.example.org" and ingress["spec"]["tls"] == [{"hosts": ["accounts.example.org"], "secretName": "mine"}]
    assert ingress["spec"]["ingressClassName"] == "traefik"
    assert layout.main("autha")["image"] == "registry.example/orrery@sha256:" + "0" * 64
    assert layout.pod("autha")["initContainers"][0]["image"] == layout.main("autha")["image"]
    assert layout.main("postgres")["image"] == "registry.example/postgres:17"
    assert layout.main("rabbitmq")["image"] == layout_of("production").main("rabbitmq")["image"]
    assert layout.pod("maily")["imagePullSecrets"] == [{"name": "registry"}]
    data = next(item["data"] for item in layout.of_kind("ConfigMap") if item["metadata"]["name"].startswith("environment"))
    assert data["ORRERY_AUTHA__PUBLIC_URL"] == "https://accounts.example.org"
    assert data["ORRERY_STORAGE__ENDPOINT"] == "https://s3.example" and data["ORRERY_SPINOZA__CONCURRENCY"] == "4"
    assert layout.get("HorizontalPodAutoscaler", "autha")["spec"]["maxReplicas"] == 20
    assert layout.get("Deployment", "spinoza")["spec"]["replicas"] == 5
    assert layout.get("StatefulSet", "rabbitmq")["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"] == "fast"
    assert test_schemas.validate(layout) == []


def test_changed_settings_restart_the_pods() -> None:
    def digests(value: str) -> set[str]:
        layout = helm(f"settings.ORRERY_LOG__LEVEL={value}")
        return {item["spec"]["template"]["metadata"]["annotations"]["orrery.example/settings"] for item in layout.of_kind("Deployment")}

    assert digests("info") != digests("debug") and len(digests("info")) == 1


@pytest.mark.parametrize("part", ["gateway", "autha", "spinoza", "maily", "discovery", "console", "postgres", "rabbitmq", "redis", "ingress"])
def test_each_part_can_be_left_out(part: str) -> None:
    whole, layout = helm(), helm(f"parts.{part}=false")
    gone = {(item["kind"], item["metadata"]["name"]) for item in whole.objects} - {(item["kind"], item["metadata"]["name"]) for item in layout.objects}
    assert gone and len(layout.objects) + len(gone) == len(whole.objects)
    (environment,) = [item for item in layout.of_kind("ConfigMap") if item["metadata"]["name"].startswith("environment")]
    assert set(environment["data"]["ORRERY_SERVICES"].split(",")) == set(make.SERVICES) - {part}
    # The console asks no process that is not there.
    asked = set(environment["data"]["ORRERY_CONSOLE__PROCESSES"].split(","))
    assert asked == {f"http://{item['metadata']['name']}:8090" for item in layout.of_kind("Service") if item["metadata"]["name"].startswith("internal-")}


@pytest.mark.parametrize("patch", [
    {"Service/postgres": {"spec": {"type": "LoadBalancer"}}},
    {"Service/autha": {"spec": {"type": "NodePort"}}},
    {"Service/rabbitmq": {"spec": {"externalIPs": ["203.0.113.9"]}}},
    {"Ingress/orrery": {"spec": {"rules": [{"host": "x", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "autha", "port": {"name": "http"}}}}]}}]}}},
    {"Deployment/maily": {"spec": {"template": {"spec": {"hostNetwork": True}}}}},
])
def test_the_chart_fails_when_more_than_the_edge_would_be_exposed(patch: dict) -> None:
    for environment in ("staging", "production"):
        with pytest.raises(RuntimeError):
            helm(values={"environment": environment, "patches": patch})
    assert helm(values={"environment": "development", "patches": patch}).objects


def test_callers_of_an_exposed_edge_keep_their_addresses() -> None:
    layout = helm("parts.ingress=false", values={"patches": {"Service/gateway-edge": {"spec": {"type": "LoadBalancer"}}}})
    assert layout.get("Service", "gateway-edge")["spec"]["externalTrafficPolicy"] == "Local"
    assert "externalTrafficPolicy" not in helm().get("Service", "gateway-edge")["spec"]


def test_the_environment_is_one_of_three() -> None:
    with pytest.raises(RuntimeError, match="development, staging or production"):
        helm("environment=prod")


def test_the_chart_is_linted() -> None:
    done = subprocess.run([HELM, "lint", "--strict", CHART], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
