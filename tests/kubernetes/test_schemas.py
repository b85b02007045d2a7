"""Every object of every overlay against the API's schemas, and custom resources against those of schemas/."""

import functools
import json
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
from conftest import KUBERNETES, OVERLAYS, Layout, layout_of
import render

# It reads and parses its schemas for every object.
kubernetes_validate.utils.schema_contents = functools.cache(kubernetes_validate.utils.schema_contents)

# The oldest version that the manifests are for (sleep as preStop, matchLabelKeys, admission policies, sidecars), and the newest known.
VERSIONS = ("1.33", "1.37")
SCHEMAS = Path(__file__).parent / "schemas"

# Components that no overlay uses: each rendered beside what it stands on.
OPTIONAL = {
    "cnpg": ["cnpg", "rabbitmq"],
    "rabbitmq-operator": ["postgres", "rabbitmq-operator"],
    "external-secrets": ["postgres", "rabbitmq", "external-secrets"],
    "discovery": ["postgres", "rabbitmq", "discovery", "pod"],
    "partners": ["postgres", "rabbitmq", "partners", "pod"],
    "console": ["postgres", "rabbitmq", "console", "pod"],
    "tunnel": ["postgres", "rabbitmq", "tunnel"],
    "telemetry": ["postgres", "rabbitmq", "monitoring", "telemetry"],
}


def validate(layout: Layout) -> list[str]:
    found = []
    for item in layout.objects:
        what = f"{layout.name}: {item['kind']} {item['metadata']['name']}"
        own = SCHEMAS / f"{item['kind'].lower()}.json"
        if own.exists():
            for error in jsonschema.Draft202012Validator(json.loads(own.read_text())).iter_errors(item):
                found.append(f"{what}: {'.'.join(map(str, error.path))}: {error.message}")
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(item, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                found.append(f"{what} ({version}): {'.'.join(map(str, error.path))}: {error.message}")
            except kubernetes_validate.SchemaNotFoundError:
                found.append(f"{what} ({version}): the API has no such kind")
    return found


def test_every_object_is_one_of_the_api(layout: Layout) -> None:
    assert validate(layout) == []


@pytest.mark.parametrize("component", OPTIONAL)
def test_every_optional_component_is_valid(component: str, scratch) -> None:
    listed = "\n".join(f"  - ../../components/{each}" for each in OPTIONAL[component])
    layout = scratch(f"""apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: scratch
resources: [../../base]
components:
{listed}
configMapGenerator: [{{name: environment, literals: [A=b]}}]
""")
    assert validate(layout) == []


def test_every_component_is_used_by_an_overlay_or_listed_as_optional() -> None:
    used = {
        line.strip().removeprefix("- ").split("/")[-1]
        for file in (KUBERNETES / "overlays").glob("**/kustomization.yaml")
        for line in file.read_text().replace("[", "\n- ").replace("]", "\n").splitlines()
        if "components/" in line
    }
    known = {folder.name for folder in (KUBERNETES / "components").iterdir()}
    assert known - used - set(OPTIONAL) - {"pod"} == set()


def test_a_misspelt_field_is_found() -> None:
    layout = layout_of("production")
    layout.pod("autha")["enableServiceLink"] = False
    assert any("enableServiceLink" in line for line in validate(layout))


def test_no_object_stands_twice(layout: Layout) -> None:
    names = [(item["apiVersion"], item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in layout.objects]
    assert len(names) == len(set(names))


def test_every_reference_leads_somewhere(layout: Layout) -> None:
    """Config maps, service accounts, claims, scale targets and the selectors of services and budgets."""
    names = {(item["kind"], item["metadata"]["name"]) for item in layout.objects}
    labels = [item["spec"]["template"]["metadata"]["labels"] for item in layout.workloads()]
    missing = []
    for item in layout.workloads():
        pod = item["spec"]["template"]["spec"]
        wanted = [("ServiceAccount", pod["serviceAccountName"])]
        for volume in pod.get("volumes", []):
            if "configMap" in volume and not volume["configMap"].get("optional"):
                wanted.append(("ConfigMap", volume["configMap"]["name"]))
            if "persistentVolumeClaim" in volume:
                wanted.append(("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]))
        for container in pod["containers"] + pod.get("initContainers", []):
            wanted += [("ConfigMap", each["configMapRef"]["name"]) for each in container.get("envFrom", []) if "configMapRef" in each]
            mounted = {volume["name"] for volume in pod.get("volumes", [])} | {claim["metadata"]["name"] for claim in item["spec"].get("volumeClaimTemplates", [])}
            missing += [(item["metadata"]["name"], mount["name"]) for mount in container.get("volumeMounts", []) if mount["name"] not in mounted]
        if item["kind"] == "StatefulSet":
            wanted.append(("Service", item["spec"]["serviceName"]))
        missing += [(item["metadata"]["name"], *each) for each in wanted if each not in names]
    for item in layout.of_kind("HorizontalPodAutoscaler"):
        target = item["spec"]["scaleTargetRef"]
        missing += [] if (target["kind"], target["name"]) in names else [(item["metadata"]["name"], target["name"])]
    for item in layout.of_kind("Service"):
        selector = item["spec"].get("selector")
        operated = item["metadata"]["name"] in ("prometheus", "alertmanager")
        if selector and not operated and not any(selector.items() <= each.items() for each in labels):
            missing.append((item["metadata"]["name"], selector))
    for item in layout.of_kind("PodDisruptionBudget"):
        if not any(item["spec"]["selector"]["matchLabels"].items() <= each.items() for each in labels):
            missing.append((item["metadata"]["name"], "budget of nothing"))
    assert missing == []


def test_selectors_of_workloads_are_disjoint(layout: Layout) -> None:
    """Two deployments that select each other's pods would fight over them."""
    for item in layout.workloads():
        chosen = item["spec"]["selector"]["matchLabels"]
        taken = [other["metadata"]["name"] for other in layout.workloads() if chosen.items() <= other["spec"]["template"]["metadata"]["labels"].items()]
        assert taken == [item["metadata"]["name"]]


def test_what_is_rendered_again_is_the_same(layout: Layout) -> None:
    assert render.build(KUBERNETES / "overlays" / layout.name) == render.build(KUBERNETES / "overlays" / layout.name)


def test_overlays_are_all_here() -> None:
    assert set(OVERLAYS) == {"development", "staging", "production", "layer8", "libra-development", "libra-production"}
