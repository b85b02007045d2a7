"""What Terraform puts out is what the layout takes: the values render the chart, and its secrets are those that the pods refer to."""

import json
import os
import re
import subprocess

import pytest
import yaml
from conftest import ROOT, TERRAFORM, by_plan, plan

HELM = ROOT / ".run" / "kubernetes" / "bin" / "helm"
CHART = ROOT / "kubernetes" / "chart" / "orrery"


def known(value: object) -> object:
    """With a text in place of what is known after the apply alone."""
    if isinstance(value, dict):
        return {key: known(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [known(inner) for inner in value]
    return "known-later" if value is None else value


def values(environment: str, name: str = "values") -> dict:
    return known(plan(environment)["output_changes"][name]["after"])


def rendered(given: dict, namespace: str = "orrery-production") -> list[dict]:
    if not HELM.exists():
        assert os.environ.get("LAYOUT_FORM") != "full", "the full form renders the chart, and Helm is not there"
        pytest.skip("Helm is not there: ./dev test terraform full fetches it, and so does ./dev test kubernetes")
    done = subprocess.run([HELM, "template", "orrery", CHART, "--namespace", namespace, "--values", "-"], input=yaml_of(given), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [item for item in yaml.load_all(done.stdout, Loader=loader) if item]


def yaml_of(given: dict) -> str:
    return json.dumps(given)  # JSON is YAML


@pytest.mark.parametrize("environment, output", [("development", "values"), ("staging", "values"), ("production", "values"), ("regions", "first"), ("regions", "second")])
def test_the_chart_takes_the_values(environment: str, output: str) -> None:
    given = values(environment, output)
    namespace = {"regions": "orrery-production"}.get(environment, f"orrery-{environment}")
    assert given["environment"] == namespace.removeprefix("orrery-")
    objects = rendered(given, namespace)
    # Its roles are bound to accounts that are there.
    accounts = {item["metadata"]["name"] for item in objects if item["kind"] == "ServiceAccount"}
    bound = {(each["namespace"], each["service_account"]) for each in by_plan(environment).of("aws_eks_pod_identity_association").values()}
    assert {account for space, account in bound if space == namespace} == {"autha", "spinoza"} <= accounts
    # Secrets are read by the names by which they are made.
    made = {each["name"] for each in by_plan(environment).of("aws_secretsmanager_secret").values()}
    read = {each["remoteRef"]["key"] for item in objects if item["kind"] == "ExternalSecret" for each in item["spec"]["data"]}
    assert read and read <= made
    kinds = {(item["kind"], item["metadata"]["name"]) for item in objects}
    assert ("TargetGroupBinding", "gateway-edge") in kinds and ("NetworkPolicy", "managed") in kinds
    assert not {name for kind, name in kinds if kind in ("StatefulSet", "Ingress")}
    (environment_map,) = [item for item in objects if item["kind"] == "ConfigMap" and item["metadata"]["name"].startswith("environment")]
    data = environment_map["data"]
    region = {"second": "eu-west-1"}.get(output, "eu-central-1")
    assert data["ORRERY_STORAGE__ENDPOINT"] == f"https://s3.{region}.amazonaws.com" and data["ORRERY_STORAGE__REGION"] == region
    assert data["ORRERY_STORAGE__BUCKET"].endswith(f"-{region}") and data["ORRERY_STORAGE__BUCKET"].startswith("orrery-")
    assert data["ORRERY_AUTHA__PUBLIC_URL"].startswith("https://")


def test_the_edge_takes_connections_from_the_load_balancers_subnets_alone() -> None:
    objects = rendered(values("production"))
    (policy,) = [item for item in objects if item["kind"] == "NetworkPolicy" and item["metadata"]["name"] == "gateway-edge"]
    sources = {each["ipBlock"]["cidr"] for rule in policy["spec"]["ingress"] for each in rule["from"]}
    public = {change["change"]["after"]["cidr_block"] for change in plan("production")["resource_changes"] if change["type"] == "aws_subnet" and ".public[" in change["address"]}
    assert sources == public and len(public) == 3


def test_pods_reach_the_managed_ports_and_their_addresses_alone() -> None:
    objects = rendered(values("production"))
    (policy,) = [item for item in objects if item["kind"] == "NetworkPolicy" and item["metadata"]["name"] == "managed"]
    (rule,) = policy["spec"]["egress"]
    database = {change["change"]["after"]["cidr_block"] for change in plan("production")["resource_changes"] if change["type"] == "aws_subnet" and ".database[" in change["address"]}
    assert {each["ipBlock"]["cidr"] for each in rule["to"]} == database
    assert {each["port"] for each in rule["ports"]} == {5432, 5671, 443}


def test_external_secrets_bring_every_key_that_the_pods_refer_to() -> None:
    objects = rendered(values("production"))
    brought = {item["metadata"]["name"]: {each["secretKey"] for each in item["spec"]["data"]} for item in objects if item["kind"] == "ExternalSecret"}
    for item in objects:
        if item["kind"] not in ("Deployment", "StatefulSet"):
            continue
        pod = item["spec"]["template"]["spec"]
        mounted = {volume["name"]: volume["secret"]["secretName"] for volume in pod.get("volumes", []) if "secret" in volume}
        for container in pod["containers"] + pod.get("initContainers", []):
            for each in container.get("env", []):
                reference = each.get("valueFrom", {}).get("secretKeyRef")
                if reference:
                    assert reference["key"] in brought[reference["name"]], (item["metadata"]["name"], reference)
            for mount in container["volumeMounts"]:
                if mount["name"] in mounted:
                    files = {each["value"].rsplit("/", 1)[1] for each in container["env"] if each.get("value", "").startswith(mount["mountPath"] + "/")}
                    assert files <= brought[mounted[mount["name"]]], (item["metadata"]["name"], files)


def test_the_keys_that_are_named_are_those_that_are_written() -> None:
    """`keys` of the module secrets, which is no secret, names the keys of its values."""
    text = (TERRAFORM / "modules" / "secrets" / "main.tf").read_text()
    named = dict(re.findall(r"^    (\w+) += \[(.*)\]$", text.split("keys = {")[1].split("\n  }")[0], re.MULTILINE))
    storage = ["storage-access-key", "storage-secret-key"]
    body = text.split("secrets = {")[1].split("keys = {")[0]
    for name, keys in named.items():
        (written,) = re.findall(rf"^    {name} += (merge\(local\.storage.*?\n    \}}\)|\{{.*?\n    \}})", body, re.MULTILINE | re.DOTALL)
        found = re.findall(r"^      ([\w-]+) +=", written, re.MULTILINE) + (storage if "local.storage" in written else [])
        assert sorted(found) == sorted(re.findall(r'"([\w-]+)"', keys)), name
