"""What the tests of kubernetes/ share: rendered overlays, and the binary that the manifests start."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "kubernetes"
sys.path.insert(0, str(KUBERNETES))
sys.dont_write_bytecode = True

import render  # noqa: E402  the folder has to be on the path first

OVERLAYS = sorted(folder.name for folder in (KUBERNETES / "overlays").iterdir() if not folder.name.startswith("."))
HELM = ROOT / ".run" / "kubernetes" / "bin" / "helm"


@functools.cache
def text_of(folder: Path) -> str:
    return render.build(folder)


class Layout:
    """The objects of one overlay, to be asked."""

    def __init__(self, name: str, objects: list[dict]):
        self.name, self.objects = name, objects

    def of_kind(self, *kinds: str) -> list[dict]:
        return [item for item in self.objects if item["kind"] in kinds]

    def get(self, kind: str, name: str) -> dict:
        found = [item for item in self.of_kind(kind) if item["metadata"]["name"] == name]
        assert len(found) == 1, f"{self.name} has {len(found)} of {kind} {name}; there are {sorted(i['metadata']['name'] for i in self.of_kind(kind))}"
        return found[0]

    def workloads(self) -> list[dict]:
        return self.of_kind("Deployment", "StatefulSet")

    def pod(self, name: str) -> dict:
        """The pod specification of the workload of that name."""
        found = [item for item in self.workloads() if item["metadata"]["name"] == name]
        assert len(found) == 1, f"{self.name} has {len(found)} workloads {name}"
        return found[0]["spec"]["template"]["spec"]

    def main(self, name: str) -> dict:
        """The first container of a workload."""
        return self.pod(name)["containers"][0]

    def policies(self) -> list[dict]:
        return self.of_kind("NetworkPolicy")


def layout_of(name: str) -> Layout:
    return Layout(name, render.load(text_of(KUBERNETES / "overlays" / name)))


@pytest.fixture(params=OVERLAYS)
def layout(request: pytest.FixtureRequest) -> Layout:
    """Each overlay in turn."""
    return layout_of(request.param)


@pytest.fixture
def scratch(tmp_path_factory: pytest.TempPathFactory):
    """Renders a kustomization that stands in no file of the repository: a folder beside the overlays, removed afterwards."""
    made: list[Path] = []

    def build(text: str, **files: str) -> Layout:
        folder = KUBERNETES / "overlays" / f".test-{os.getpid()}-{len(made)}"
        folder.mkdir()
        made.append(folder)
        (folder / "kustomization.yaml").write_text(text)
        for name, content in files.items():
            (folder / name).mkdir()
            (folder / name / "kustomization.yaml").write_text(content)
        return Layout(folder.name, render.load(render.build(folder)))

    yield build
    for folder in made:
        subprocess.run(["rm", "-rf", str(folder)], check=True)


class Answering(BaseHTTPRequestHandler):
    """A server in the place of a program: what it answers is JSON, and it keeps its connections."""

    protocol_version = "HTTP/1.1"

    def answer(self, document: dict) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def containers(pod: dict) -> list[dict]:
    return pod.get("initContainers", []) + pod["containers"]


def ours(pod: dict) -> list[dict]:
    """The containers that run the binary."""
    return [container for container in containers(pod) if container["image"].split("/")[-1].split(":")[0].split("@")[0] == "orrery"]


def binary() -> Path:
    """The binary of ORRERY_BIN, or the one that was built last."""
    for candidate in (os.environ.get("ORRERY_BIN"), *(ROOT / "target" / profile / "orrery" for profile in ("debug", "release"))):
        if candidate and Path(candidate).exists():
            return Path(candidate)
    pytest.skip("there is no orrery binary: cargo build --bin orrery, or ORRERY_BIN=PATH")
