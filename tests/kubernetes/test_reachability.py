"""Who reaches whom in every overlay, against the tables of expected/; and the computation itself on small policies."""

from pathlib import Path

import pytest
from conftest import Layout
import reachability
from reachability import Pod, Policies, Port

EXPECTED = Path(__file__).parent / "expected"


def test_reachability_is_the_table(layout: Layout) -> None:
    """To change it on purpose: write what is printed into the table, and read it line by line."""
    lines = [line.split("\t") for line in (EXPECTED / f"{layout.name}.tsv").read_text().splitlines() if line and not line.startswith("#")]
    wanted, found = {tuple(line) for line in lines}, reachability.table(layout.objects)
    assert sorted(found - wanted) == [] and sorted(wanted - found) == []


def test_every_table_has_its_overlay() -> None:
    from conftest import OVERLAYS

    assert {file.stem for file in EXPECTED.iterdir()} == set(OVERLAYS)


def policy(selector: dict, **spec) -> dict:
    return {"kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "n"}, "spec": {"podSelector": selector, **spec}}


A = Pod("a", "n", {"app": "a"}, [Port(80, name="http")])
B = Pod("b", "n", {"app": "b"}, [Port(80, name="http")])
FAR = Pod("far", "m", {"app": "a"})
WORLD = reachability.neighbours()[-1]


@pytest.mark.parametrize("rules, other, port, allowed", [
    ([], A, 80, False),
    ([{}], A, 80, True),
    ([{}], WORLD, 80, True),
    ([{"from": [{"podSelector": {}}]}], A, 80, True),
    ([{"from": [{"podSelector": {}}]}], FAR, 80, False),
    ([{"from": [{"podSelector": {}}]}], WORLD, 80, False),
    ([{"from": [{"namespaceSelector": {}}]}], FAR, 80, True),
    ([{"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "m"}}, "podSelector": {"matchLabels": {"app": "b"}}}]}], FAR, 80, False),
    ([{"from": [{"podSelector": {"matchLabels": {"app": "a"}}}], "ports": [{"port": 80}]}], A, 80, True),
    ([{"from": [{"podSelector": {"matchLabels": {"app": "a"}}}], "ports": [{"port": "http"}]}], A, 80, True),
    ([{"from": [{"podSelector": {"matchLabels": {"app": "a"}}}], "ports": [{"port": 81}]}], A, 80, False),
    ([{"ports": [{"port": 80, "protocol": "UDP"}]}], A, 80, False),
    ([{"ports": [{"port": 70, "endPort": 90}]}], A, 80, True),
    ([{"from": [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}}]}], A, 80, False),
    ([{"from": [{"podSelector": {"matchExpressions": [{"key": "sp", "operator": "DoesNotExist"}]}}]}], A, 80, True),
    ([{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}], WORLD, 80, True),
    ([{"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["203.0.113.0/24"]}}]}], WORLD, 80, False),
    ([{"from": [{"ipBlock": {"cidr": "::/0"}}]}], WORLD, 80, False),
])
def test_one_rule(rules: list, other: Pod, port: int, allowed: bool) -> None:
    policies = Policies([policy({"matchLabels": {"app": "b"}}, policyTypes=["Ingress"], ingress=rules)])
    assert policies.allows(B, "Ingress", other, Port(port, name="http")) is allowed


def test_a_pod_without_a_policy_is_open_and_policies_add_up() -> None:
    assert Policies([]).allows(A, "Ingress", B, Port(80))
    deny, some = policy({}, policyTypes=["Ingress", "Egress"]), policy({"matchLabels": {"app": "a"}}, policyTypes=["Ingress"], ingress=[{}])
    assert Policies([deny, some]).allows(A, "Ingress", B, Port(80))
    assert not Policies([deny, some]).allows(A, "Egress", B, Port(80))
    assert not Policies([deny, some]).allows(B, "Ingress", A, Port(80))
