"""What the tests of terraform/ share: the sources, parsed; each environment, evaluated by tfparse, and planned by the real program where there is one."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import hcl2
import pytest

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TERRAFORM = ROOT / "terraform"
ENVIRONMENTS = sorted(folder.name for folder in (TERRAFORM / "environments").iterdir())
FILES = sorted(TERRAFORM.rglob("*.tf"))


def program() -> str | None:
    """OpenTofu or Terraform, where one is installed."""
    return os.environ.get("TERRAFORM") or shutil.which("tofu") or shutil.which("terraform")


def parsed(file: Path) -> dict:
    with file.open() as source:
        return hcl2.load(source)


@functools.cache
def workspace() -> Path:
    """A copy of terraform/ without its backends, in which the program may write."""
    folder = Path(tempfile.mkdtemp(prefix="orrery-terraform-"))
    shutil.copytree(TERRAFORM, folder / "terraform", ignore=shutil.ignore_patterns(".terraform", "*.lock.hcl"))
    for versions in (folder / "terraform" / "environments").glob("*/versions.tf"):
        versions.write_text(re.sub(r"\n  backend \"s3\" \{.*?\n  \}\n", "\n", versions.read_text(), flags=re.DOTALL))
    plugins = folder / "plugins"
    plugins.mkdir()
    for name in ("aws", "random"):
        plugin = plugins / f"terraform-provider-{name}"
        plugin.write_text(f'#!/bin/sh\nSTAND_IN_NAME={name} exec "{sys.executable}" -B "{HERE / "stand_in.py"}"\n')
        plugin.chmod(0o755)
    overrides = "\n".join(f'    "hashicorp/{name}" = "{plugins}"' for name in ("aws", "random"))
    (folder / "terraformrc").write_text(f"provider_installation {{\n  dev_overrides {{\n{overrides}\n  }}\n  direct {{}}\n}}\n")
    return folder


def pytest_sessionfinish() -> None:
    if workspace.cache_info().currsize:
        shutil.rmtree(workspace(), ignore_errors=True)


def terraform(environment: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the program in an environment of the copy, with the stand-in for its providers."""
    return run_in(Path("environments") / environment, *arguments)


def run_cases(folder: Path, cases: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `terraform test` in a folder of the copy with these cases."""
    if program() is None:
        pytest.skip("neither tofu nor terraform is installed; what they would say was not asked")
    place = workspace() / "terraform" / folder / "tests"
    place.mkdir(exist_ok=True)
    (place / "cases.tftest.hcl").write_text(cases)
    got = run_in(folder, "get", "-no-color")
    assert got.returncode == 0, got.stdout + got.stderr
    return run_in(folder, "test", "-no-color", *arguments)


def run_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    settings = {**os.environ, "TF_CLI_CONFIG_FILE": str(workspace() / "terraformrc"), "TF_DISABLE_PLUGIN_TLS": "1", "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
    return subprocess.run([program(), *arguments], cwd=workspace() / "terraform" / folder, env=settings, capture_output=True, text=True, check=False, timeout=120)


@functools.cache
def plan(environment: str, *variables: str) -> dict:
    """What the program would make of an environment with its example's variables, and others such as -var=NAME=VALUE, as JSON."""
    if program() is None:
        pytest.skip("neither tofu nor terraform is installed; what they would say was not asked")
    for arguments in (["get", "-no-color"], ["plan", "-no-color", "-input=false", "-refresh=false", "-lock=false", "-var-file=example.tfvars", *variables, "-out=plan.bin"]):
        done = terraform(environment, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    done = terraform(environment, "show", "-json", "plan.bin")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Evaluated:
    """The resources and data sources of an environment: addresses and values."""

    def __init__(self, name: str, items: list[tuple[str, str, dict]], planned: bool):
        self.name, self.items, self.planned = name, items, planned

    def of(self, type_: str) -> dict[str, dict]:
        return {address: values for kind, address, values in self.items if kind == type_}


def strip(value: object) -> object:
    if isinstance(value, dict):
        return {key: strip(inner) for key, inner in value.items() if key != "__tfmeta"}
    return [strip(inner) for inner in value] if isinstance(value, list) else value


@functools.cache
def by_tfparse(environment: str) -> Evaluated:
    import tfparse

    if environment == "regions":
        pytest.skip("tfparse evaluates one of two instances of a module; the plan has both")
    folder = TERRAFORM / "environments" / environment
    found = tfparse.load_from_path(str(folder), stop_on_hcl_error=True, vars_paths=["example.tfvars"])
    items = []
    for type_, entries in found.items():
        for entry in entries:
            kind = entry["__tfmeta"].get("type")
            if kind in ("resource", "data"):
                items.append((f"data.{type_}" if kind == "data" else type_, entry["__tfmeta"]["path"], strip(entry)))
    return Evaluated(environment, items, planned=False)


@functools.cache
def by_plan(environment: str, *variables: str) -> Evaluated:
    items = []
    for change in plan(environment, *variables)["resource_changes"]:
        type_ = f"data.{change['type']}" if change["mode"] == "data" else change["type"]
        items.append((type_, change["address"], change["change"]["after"]))
    # Data sources whose configuration is known were read already.
    modules = [plan(environment, *variables).get("prior_state", {}).get("values", {}).get("root_module", {})]
    while modules:
        module = modules.pop()
        modules += module.get("child_modules", [])
        items += [(f"data.{each['type']}", each["address"], each["values"]) for each in module.get("resources", []) if each["mode"] == "data"]
    return Evaluated(environment, items, planned=True)


@pytest.fixture(params=["tfparse", "plan"])
def evaluate(request: pytest.FixtureRequest):
    """An environment by its name, evaluated one way and the other."""
    return by_tfparse if request.param == "tfparse" else by_plan


def blocks(value: object) -> list[dict]:
    """A block that is written once or more often, as a list."""
    return [] if value is None else [value] if isinstance(value, dict) else list(value)
