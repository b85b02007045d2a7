"""The layout on a real cluster: rendered, applied, waited for, and `orrery demo` inside. LAYOUT_CLUSTER names a context of kubectl; where none is
named, a cluster is made by kind, when kind and a Docker engine are there. The image orrery:dev has to be known to them (docs/kubernetes.md)."""

import os
import shutil
import subprocess

import pytest
import yaml
from conftest import layout_of
import make_secrets
import render

NAMESPACE = "orrery-development"


def run(*command: str, text: str | None = None, seconds: int = 120) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=seconds)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
    return done.stdout


@pytest.fixture
def context():
    named = os.environ.get("LAYOUT_CLUSTER")
    if named:
        yield named
        return
    if not shutil.which("kind"):
        pytest.skip("no cluster: LAYOUT_CLUSTER names none, and kind is not installed; the layout was not applied")
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        pytest.skip("no cluster: kind is there and no Docker engine; the layout was not applied")
    if subprocess.run(["docker", "image", "inspect", "orrery:dev"], capture_output=True, check=False).returncode:
        pytest.skip("no cluster: there is no image orrery:dev to load; the layout was not applied")
    name = f"orrery-{os.getpid()}"
    run("kind", "create", "cluster", "--name", name, "--wait", "3m", seconds=400)
    try:
        run("kind", "load", "docker-image", "orrery:dev", "--name", name, seconds=300)
        yield f"kind-{name}"
    finally:
        run("kind", "delete", "cluster", "--name", name)


def test_the_demo_passes_in_the_cluster(context: str) -> None:
    def kubectl(*arguments: str, text: str | None = None, seconds: int = 120) -> str:
        return run(render.kubectl(), "--context", context, *arguments, text=text, seconds=seconds)

    # Without the resource types of operators, which a fresh cluster has not.
    objects = [item for item in layout_of("development").objects if not item["apiVersion"].startswith("monitoring.coreos.com")]
    try:
        kubectl("create", "namespace", NAMESPACE)
        kubectl("create", "-f", "-", text=yaml.safe_dump_all(make_secrets.make(layout_of("development").objects)))
        kubectl("apply", "-f", "-", text=yaml.safe_dump_all(objects))
        kubectl("-n", NAMESPACE, "wait", "--for=condition=Available", "deployment/gateway-edge", "deployment/autha", "deployment/maily", "deployment/spinoza", "--timeout=10m", seconds=620)
        kubectl("-n", NAMESPACE, "exec", "deploy/autha", "--", "orrery", "check")
        # Captured mails lie in maily's own pod: it waits for none.
        kubectl("-n", NAMESPACE, "exec", "deploy/maily", "--", "orrery", "demo", "--url", "http://gateway-edge:8080", seconds=300)
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")
