"""Service providers: a second one is five lines, touches nothing of the first, and cannot reach it."""

import pytest
import yaml
from conftest import KUBERNETES, Layout, layout_of
import make_secrets
import reachability
import render

SECOND = """apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
components: [../../../components/service-provider]
nameSuffix: -sp2
labels: [{pairs: {sp-id: sp2}, includeSelectors: true}]
"""


@pytest.fixture
def two(scratch) -> Layout:
    """Layer8 with a second provider."""
    text = (KUBERNETES / "overlays" / "layer8" / "kustomization.yaml").read_text()
    lines = text.replace("  - namespace.yaml\n", "").replace("  - core\n", "  - ../layer8/core\n").replace("  - sp1\n", "  - ../layer8/sp1\n  - sp2\n")
    for name in ("ingress.yaml", "node-ports.yaml", "aliases.yaml", "influxdb-policy.yaml"):
        lines = lines.replace(f"  - {name}\n", "")
    layout = scratch(lines, sp2=SECOND)
    for item in layout_of("layer8").objects:
        if item["kind"] in ("Namespace", "Ingress") or item["metadata"]["name"] in ("reverse-proxy", "spa-frontend", "spa-backend", "influxdb-node") or item["metadata"]["name"].endswith("-node"):
            layout.objects.append(item)
    return layout


def test_a_second_provider_is_five_lines() -> None:
    assert len(SECOND.strip().splitlines()) == 5
    assert (KUBERNETES / "overlays" / "layer8" / "sp1" / "kustomization.yaml").read_text() == SECOND.replace("sp2", "sp1")


def keyed(objects: list[dict]) -> dict[tuple[str, str], dict]:
    return {(item["kind"], item["metadata"]["name"]): item for item in objects}


def test_a_second_provider_touches_nothing_of_what_is_there(two: Layout) -> None:
    before, after = keyed(layout_of("layer8").objects), keyed(two.objects)
    assert [name for name, item in before.items() if after.get(name) != item] == []
    added = {name for name in after if name not in before}
    assert all("sp2" in name for _, name in added)
    assert {name for kind, name in added if kind == "Deployment"} == {"reverse-proxy-sp2", "spa-frontend-sp2", "spa-backend-sp2"}


def test_the_second_provider_is_all_that_the_first_is(two: Layout) -> None:
    names = {(item["kind"], item["metadata"]["name"]) for item in two.objects}
    first = {(kind, name) for kind, name in names if "sp1" in name}
    assert {(kind, name.split("-sp")[0]) for kind, name in first} == {(kind, name.split("-sp")[0]) for kind, name in names if "sp2" in name}


def test_providers_reach_neither_each_other_nor_each_others_parts(two: Layout) -> None:
    assert render.faults(two.objects) == []
    table = reachability.table(two.objects)
    for source, target, _ in table:
        assert not (source.endswith("sp1") and target.endswith("sp2")), (source, target)
        assert not (source.endswith("sp2") and target.endswith("sp1")), (source, target)


@pytest.mark.parametrize("provider", ["sp1", "sp2"])
def test_what_is_shared_reaches_every_provider_by_its_reverse_proxy_alone(two: Layout, provider: str) -> None:
    table = {(source, target, port) for source, target, port in reachability.table(two.objects) if target.endswith(provider)}
    outside = {(source, target, port) for source, target, port in table if not source.endswith(provider)}
    reverse = f"gateway-reverse-{provider}"
    assert outside == {("gateway-forward", reverse, "6193"), ("autha", reverse, "6193")}
    inside = table - outside
    assert inside == {(reverse, f"frontend-{provider}", "5173"), (reverse, f"backend-{provider}", "3000")}


def test_providers_share_no_secret(two: Layout) -> None:
    def held(provider: str) -> set[str]:
        items = [item for item in two.workloads() if item["metadata"]["name"].endswith(provider)]
        return set(make_secrets.references(items)) - {"layer8-secrets"}

    assert held("sp1") and held("sp2") and not held("sp1") & held("sp2")


def test_each_provider_has_a_database_and_a_user_of_its_own(two: Layout) -> None:
    made = {item["metadata"]["name"]: item["stringData"] for item in make_secrets.make(two.objects)}
    first, second = made["spa-backend-secret"]["DATABASE_URL"], made["spa-backend-secret-sp2"]["DATABASE_URL"]
    assert first.startswith("postgres://sp1:") and first.endswith("/sp1")
    assert second.startswith("postgres://sp2:") and second.endswith("/sp2")


def test_a_provider_knows_its_id(two: Layout) -> None:
    for provider in ("sp1", "sp2"):
        for name in ("reverse-proxy", "spa-frontend", "spa-backend"):
            (env,) = [each for each in two.main(f"{name}-{provider}")["env"] if each["name"] == "SP_ID"]
            assert env["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.labels['sp-id']"
            (workload,) = [item for item in two.workloads() if item["metadata"]["name"] == f"{name}-{provider}"]
            assert workload["spec"]["template"]["metadata"]["labels"]["sp-id"] == provider


def test_the_text_of_the_guide_is_this_one() -> None:
    guide = (KUBERNETES.parent / "docs" / "kubernetes.md").read_text()
    assert SECOND in guide
    assert yaml.safe_load(SECOND)["nameSuffix"] == "-sp2"
