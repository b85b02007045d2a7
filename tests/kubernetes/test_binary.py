"""The manifests against the binary itself: commands, flags, services and settings that it does not know are found, and probes are asked of a process."""

import functools
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from conftest import Layout, binary, layout_of, ours
import make_secrets

# Services that are built after these manifests: the component stands ready, and an overlay takes it when `orrery serve --help` names the service.
PORTS = {"gateway": 8080, "autha": 8081, "partners": 8082, "discovery": 8083, "console": 8084, "internal": 8090, "s3": 9000}


@functools.cache
def help_of(*command: str) -> str:
    return subprocess.run([binary(), *command, "--help"], capture_output=True, text=True, check=True).stdout


def commands() -> set[str]:
    return set(re.findall(r"^  ([a-z0-9-]+)  ", help_of().split("Commands:")[1].split("Options:")[0], re.MULTILINE))


def services() -> set[str]:
    """The names that `serve` takes."""
    listed = re.search(r"\[possible values: (.*?)\]", help_of("serve"), re.DOTALL) or re.search(r"^ +\[SERVICES\]\.\.\. +(.*)$", help_of("serve"), re.MULTILINE)
    return set(listed[1].replace(",", " ").split())


def each_container(layout: Layout):
    for item in layout.workloads():
        for container in ours(item["spec"]["template"]["spec"]):
            yield item, container


def test_commands_and_flags_are_the_binarys(layout: Layout) -> None:
    for item, container in each_container(layout):
        assert container["command"] == ["orrery"], item["metadata"]["name"]
        command, *rest = container["args"]
        assert command in commands(), container["args"]
        if command == "serve":
            assert rest and set(rest) <= services(), container["args"]
        else:
            flags = [each for each in rest if each.startswith("-")]
            assert all(re.search(rf"{flag}\b", help_of(command)) for flag in flags), container["args"]


# partners is turned on by an operator: it opens a way in (decision 60).
@pytest.mark.parametrize("name", ["discovery", "console"])
def test_a_service_that_the_binary_has_is_in_the_environments(name: str) -> None:
    """Fails when the service has come and no overlay runs it: add components/<name> to the environments and the name to `services`."""
    if name not in services():
        pytest.skip(f"the binary does not have {name} yet; components/{name} waits for it")
    for environment in ("development", "staging", "production"):
        assert name in {item["metadata"]["name"] for item in layout_of(environment).of_kind("Deployment")}


def write(folder: Path, layout: Layout, item: dict, container: dict) -> dict[str, str]:
    """The files that the container mounts, below `folder`; gives its environment, with paths of that folder."""
    pod = item["spec"]["template"]["spec"]
    secrets = {each["metadata"]["name"]: each["stringData"] for each in make_secrets.make(layout.objects)}
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    for mount in container["volumeMounts"]:
        volume, into = volumes.get(mount["name"], {}), folder / mount["mountPath"].strip("/")
        into.mkdir(parents=True, exist_ok=True)
        if "configMap" in volume:
            for name, text in layout.get("ConfigMap", volume["configMap"]["name"])["data"].items():
                (into / name).write_text(text)
        if "secret" in volume:
            for name, text in secrets[volume["secret"]["secretName"]].items():
                (into / name).write_text(text)
    variables = {}
    for each in container.get("envFrom", []):
        if "configMapRef" in each:
            variables |= layout.get("ConfigMap", each["configMapRef"]["name"])["data"]
        elif each["secretRef"]["name"] in secrets:
            variables |= secrets[each["secretRef"]["name"]]
    for each in container.get("env", []):
        if "value" in each:
            value = each["value"]
        elif "secretKeyRef" in each["valueFrom"]:
            value = secrets[each["valueFrom"]["secretKeyRef"]["name"]][each["valueFrom"]["secretKeyRef"]["key"]]
        else:
            label = re.search(r"\['(.*)'\]", each["valueFrom"]["fieldRef"]["fieldPath"])
            value = item["spec"]["template"]["metadata"]["labels"][label[1]]
        value = re.sub(r"\$\((\w+)\)", lambda name: variables[name[1]], value)
        variables[each["name"]] = value
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    return {name: f"{folder}{value}" if any(value.startswith(f"{mount}/") for mount in mounts) else value for name, value in variables.items()}


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([binary(), *arguments], env={"PATH": os.environ["PATH"], **environment}, capture_output=True, text=True, check=False, timeout=60)


def test_every_container_has_a_configuration_that_the_binary_takes(layout: Layout, tmp_path: Path) -> None:
    """`orrery check --print` reads and validates files, variables and secret files as the container's own command does."""
    for index, (item, container) in enumerate(each_container(layout)):
        if container["args"][0] == "s3":
            continue
        environment = write(tmp_path / str(index), layout, item, container)
        done = run(environment, "check", "--print")
        assert done.returncode == 0, f"{item['metadata']['name']}/{container['name']}: {done.stderr}"
        assert "0.0.0.0:8090" in done.stdout
        if container["args"][0] == "serve":
            enabled = re.search(r"services = \[(.*?)\]", done.stdout, re.DOTALL)[1]
            assert set(container["args"][1:]) <= set(re.findall(r'"(\w+)"', enabled))


def test_a_setting_that_does_not_exist_is_found(tmp_path: Path) -> None:
    layout = layout_of("production")
    item = layout.get("Deployment", "autha")
    container = item["spec"]["template"]["spec"]["containers"][0]
    environment = write(tmp_path, layout, item, container) | {"ORRERY_DATABASE__ULR": "x"}
    assert run(environment, "check", "--print").returncode != 0


def printed(layout: Layout, name: str, folder: Path) -> str:
    item = layout.get("Deployment", name)
    (container,) = [each for each in ours(item["spec"]["template"]["spec"]) if each["args"][0] == "serve"]
    return run(write(folder, layout, item, container), "check", "--print").stdout


def test_listeners_are_on_the_declared_ports(layout: Layout, tmp_path: Path) -> None:
    """A port of the manifest is the one that the configuration in force listens on."""
    for item in layout.of_kind("Deployment"):
        for container in ours(item["spec"]["template"]["spec"]):
            if container["args"][0] != "serve":
                continue
            shown = tomllib.loads(printed(layout, item["metadata"]["name"], tmp_path / item["metadata"]["name"]))
            # Where listeners of the gateway are named, they are in the place of the one.
            addresses = [shown[each]["listen"] for each in ("internal", *container["args"][1:]) if "listen" in shown[each]]
            if "gateway" in container["args"] and "listeners" in shown["gateway"]:
                addresses.remove(shown["gateway"]["listen"])
                addresses += [each["address"] for each in shown["gateway"]["listeners"]]
            outside = {int(port) for host, port in (each.rsplit(":", 1) for each in addresses) if host == "0.0.0.0"}
            assert {port["containerPort"] for port in container["ports"]} == outside, (item["metadata"]["name"], addresses)


def test_ports_of_the_base_are_the_defaults_of_the_product() -> None:
    layout = layout_of("production")
    for name in ("autha",):
        assert PORTS[name] in [port["containerPort"] for port in layout.main(name)["ports"]]
    assert PORTS["gateway"] in [port["containerPort"] for port in layout.main("gateway-edge")["ports"]]
    assert PORTS["s3"] in [port["containerPort"] for port in layout_of("development").main("s3")["ports"]]


def test_limits_of_pods_hold_what_is_configured(layout: Layout) -> None:
    """Nothing writes outside of what is mounted: captured mails lie in the pod's own /tmp."""
    (config,) = [item for item in layout.of_kind("ConfigMap") if item["metadata"]["name"].startswith("orrery-")]
    folder = re.search(r'capture_dir = "(.*)"', config["data"]["orrery.toml"])[1]
    assert folder.startswith("/tmp/")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@functools.cache
def knows(variable: str) -> bool:
    """Whether the binary has the setting of a variable."""
    value = "false" if variable.endswith("ENABLED") else "http://127.0.0.1:1"
    return run({variable: value}, "check", "--print").returncode == 0


class Process:
    """`orrery serve gateway` with the configuration of a container, on free ports of the loopback."""

    def __init__(self, layout: Layout, name: str, settings: dict[str, str] | None = None):
        self.folder = Path(tempfile.mkdtemp())
        item = layout.get("Deployment", name)
        (container,) = [each for each in ours(item["spec"]["template"]["spec"]) if each["args"][0] == "serve"]
        self.http, self.internal = free_port(), free_port()
        environment = write(self.folder, layout, item, container)
        environment |= {"PATH": os.environ["PATH"], "ORRERY_GATEWAY__LISTEN": f"127.0.0.1:{self.http}", "ORRERY_INTERNAL__LISTEN": f"127.0.0.1:{self.internal}"}
        # Listeners by role, wherever they are named: the first on this port.
        listeners = "ORRERY_GATEWAY__LISTENERS"
        if listeners in environment:
            ports = iter([self.http])
            environment[listeners] = re.sub(r"0\.0\.0\.0:\d+", lambda _: f"127.0.0.1:{next(ports, None) or free_port()}", environment[listeners])
        if "autha" in container["args"]:
            environment["ORRERY_AUTHA__LISTEN"] = f"127.0.0.1:{free_port()}"
        for file in self.folder.rglob("orrery.toml"):
            file.write_text(re.sub(r'address = "0\.0\.0\.0:\d+"', f'address = "127.0.0.1:{self.http}"', file.read_text()))
        environment |= {key: value for key, value in (settings or {}).items() if knows(key)}
        self.log = open(self.folder / "log", "w")
        self.process = subprocess.Popen([binary(), *container["args"]], env=environment, stdout=self.log, stderr=self.log)

    def status(self, port: int, path: str) -> int:
        """The answer to a GET, once there is one."""
        end = time.monotonic() + 30
        while True:
            try:
                return urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5).status
            except urllib.error.HTTPError as error:
                return error.code
            except OSError:
                assert self.process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < end, "no answer within 30 s"
                time.sleep(0.05)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        self.log.close()
        shutil.rmtree(self.folder)


@pytest.mark.parametrize("name, overlay", [("gateway-edge", "production"), ("gateway-api", "libra-production")])
def test_liveness_is_answered_without_any_neighbour(name: str, overlay: str) -> None:
    """No database, no broker, no autha: the process lives, is started, and says that it is not ready."""
    layout = layout_of(overlay)
    probes = layout.main(name)
    with Process(layout, name) as process:
        for probe in ("startupProbe", "livenessProbe"):
            assert process.status(process.internal, probes[probe]["httpGet"]["path"]) == 200
        assert process.status(process.internal, probes["readinessProbe"]["httpGet"]["path"]) in (200, 503)
        assert process.status(process.http, "/metrics") == 404
        assert process.status(process.http, "/health/actors") == 404


def test_the_auth_server_answers_at_the_path_of_the_document() -> None:
    """Without a database it is not ready, and says so; autha's own listener has no such path."""
    layout = layout_of("layer8")
    with Process(layout, "auth-server") as process:
        assert process.status(process.internal, layout.main("auth-server")["livenessProbe"]["httpGet"]["path"]) == 200
        assert process.status(process.http, layout.main("auth-server")["readinessProbe"]["httpGet"]["path"]) == 503
        assert process.status(process.http, "/users/nobody") == 503


@pytest.mark.parametrize("name", ["forward-proxy", "reverse-proxy-sp1"])
def test_the_proxies_are_ready_without_any_neighbour(name: str) -> None:
    """No policy lets a reverse proxy reach autha: neither autha nor a frontend that is away is a condition of readiness, at the document's path as inside."""
    layout = layout_of("layer8")
    with Process(layout, name) as process:
        path = layout.main(name)["readinessProbe"]["httpGet"]["path"]
        assert process.status(process.http, path) == 200
        assert process.status(process.internal, "/health/ready") == 200
