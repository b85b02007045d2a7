"""Layer8 with two providers as real processes in network namespaces, which have just the reachability of the network policies."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import Answering, Layout, binary, ours
import netns
import reachability
from netns import Network, Place
from test_binary import write
from test_pods import grace
from test_providers import two  # noqa: F401  a fixture

# How long a provider's program takes for an answer, so that requests are under way whenever a signal comes.
WORK = 0.1
# How long balancers go on to open connections to a pod that ends: less than the pause.
PROPAGATION = 2
CLIENTS = 6
# Requests that are counted, and budgets that do not fill again meanwhile.
ASKED = 30
SLOW = {"ORRERY_GATEWAY__RATES__READ__PER_SECOND": "0.01", "ORRERY_GATEWAY__RATES__READ__BURST": "400"}


class Program(Answering):
    """In the place of a provider's frontend and backend: says who it is, and what it is told of the caller."""

    def do_GET(self) -> None:
        time.sleep(0 if self.path == "/" else WORK)
        self.answer({"name": self.server.name, "host": self.headers["Host"], "path": self.path, "told": self.headers.get("X-Forwarded-For")})


class Cluster:
    """Places and processes of a layout."""

    def __init__(self, layout: Layout, network: Network):
        self.layout, self.network = layout, network
        self.pods = {pod.name: pod for pod in reachability.pods(layout.objects) + reachability.neighbours()}
        self.folder = Path(tempfile.mkdtemp())
        self.processes: list[subprocess.Popen[bytes]] = []
        self.servers: list[ThreadingHTTPServer] = []
        self.world = network.add(self.pods["world"])
        self.ingress = network.add(self.pods["ingress-nginx"])

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait(10)
        for server in self.servers:
            server.shutdown()
            server.server_close()
        shutil.rmtree(self.folder)

    def program(self, pod: str, service: str) -> Place:
        """A provider's frontend or backend."""
        place = self.network.add(self.pods[pod])
        server = self.network.within(place.namespace, lambda: ThreadingHTTPServer((place.address, place.pod.ports[-1].number), Program))
        server.name = pod
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.servers.append(server)
        self.network.name(service, place)
        return place

    def serve(self, pod: str, workload: str, **settings: str) -> tuple[Place, subprocess.Popen[bytes]]:
        """A pod of the binary, with the configuration of its manifest."""
        item = self.layout.get("Deployment", workload)
        (container,) = [each for each in ours(item["spec"]["template"]["spec"]) if each["args"][0] == "serve"]
        place = self.network.add(self.pods[pod])
        self.network.enforce()
        folder = self.folder / place.namespace
        environment = write(folder, self.layout, item, container) | {"PATH": os.environ["PATH"]} | settings
        process = self.network.start(place, [str(binary()), *container["args"]], environment, folder / "log")
        self.processes.append(process)
        self.until(place, container["livenessProbe"]["httpGet"], container, 200)
        return place, process

    def provider(self, name: str, replicas: int = 1) -> list[tuple[Place, subprocess.Popen[bytes]]]:
        """A provider's frontend, backend and reverse proxies."""
        for part in ("frontend", "backend"):
            self.program(f"{part}-{name}", f"spa-{part}-{name}")
        proxies = [self.serve(f"gateway-reverse-{name}", f"reverse-proxy-{name}") for _ in range(replicas)]
        self.network.name(f"reverse-proxy-{name}", *(place for place, _ in proxies))
        return proxies

    def get(self, source: Place, target: Place, path: str, port: int, **headers: str) -> tuple[int, dict[str, str], bytes]:
        return self.network.within(source.namespace, lambda: ask(target.address, port, path, headers))

    def until(self, place: Place, probe: dict, container: dict, status: int) -> None:
        """Waits until a probe of the manifest, asked by the node, is answered like that."""
        (port,) = [each["containerPort"] for each in container["ports"] if each["name"] == probe["port"]]
        end, answer = time.monotonic() + 30, None
        while answer != status:
            assert time.monotonic() < end, f"{place.pod.name} answers {answer} at {probe['path']}: {(self.folder / place.namespace / 'log').read_text()[-2000:]}"
            try:
                answer = self.network.within(self.network.node, lambda: ask(place.address, port, probe["path"], {})[0])
            except OSError as error:
                answer = error
            if answer != status:
                time.sleep(0.05)

    def end(self, place: Place, process: subprocess.Popen[bytes], workload: str, forget) -> None:
        """A pod ends as its manifest has it: the pause, in which balancers forget it late, then SIGTERM, then its grace."""
        pod = self.layout.pod(workload)
        pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert pause > PROPAGATION
        deleted = time.monotonic()
        time.sleep(PROPAGATION)
        forget()
        time.sleep(deleted + pause - time.monotonic())
        process.send_signal(signal.SIGTERM)
        assert process.wait(grace(self.layout, pod) + 10) == 0
        assert time.monotonic() - deleted < pod["terminationGracePeriodSeconds"]


def ask(address: str, port: int, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(address, port, timeout=20)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


class Clients:
    """Clients outside, by a node port: each opens a connection, asks four times, and opens another one."""

    def __init__(self, cluster: Cluster, targets: list[Place], host: str = "layer8.local"):
        self.cluster, self.targets, self.host = cluster, list(targets), host
        self.stopped, self.lock = threading.Event(), threading.Lock()
        self.answered, self.failed = 0, []
        self.threads = [threading.Thread(target=lambda: cluster.network.within(cluster.world.namespace, self.run), daemon=True) for _ in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def run(self) -> None:
        turn = threading.get_ident()
        while not self.stopped.is_set():
            turn += 1
            target = self.targets[turn % len(self.targets)]
            connection = http.client.HTTPConnection(target.address, 6191, timeout=20)
            for request in range(4):
                try:
                    self.ask(connection)
                except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
                    # A kept connection that was closed unanswered: a client asks again on a new one.
                    if request == 0:
                        self.fail(target, error)
                    break
                except (OSError, http.client.HTTPException, ValueError) as error:
                    self.fail(target, error)
                    break
            connection.close()

    def ask(self, connection: http.client.HTTPConnection) -> None:
        connection.request("GET", "/api/orders", headers={"Host": self.host})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise ValueError(f"{answer.status} {body[:200]!r}")
        with self.lock:
            self.answered += 1

    def fail(self, target: Place, error: Exception) -> None:
        with self.lock:
            self.failed.append(f"{target.address}: {error!r}")

    def until(self, more: int) -> None:
        wanted, end = self.answered + more, time.monotonic() + 60
        while self.answered < wanted:
            assert time.monotonic() < end and not self.failed, self.failed[:3]
            time.sleep(0.02)

    def stop(self) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join(30)


@pytest.fixture
def cluster(two: Layout):  # noqa: F811
    netns.needed()
    binary()
    with Network(two.objects) as network:
        made = Cluster(two, network)
        yield made
        made.close()


def test_places_reach_each_other_as_the_tables_have_it(two: Layout) -> None:  # noqa: F811
    """Every declared TCP port of every pod, asked from every other pod and from outside."""
    netns.needed()
    with Network(two.objects) as network:
        places = [network.add(pod) for pod in reachability.pods(two.objects) + reachability.neighbours()]
        network.enforce()
        listeners = []
        for place in places:
            for port in {port.number for port in place.pod.ports if port.protocol == "TCP"}:
                listeners.append(network.within(place.namespace, lambda place=place, port=port: socket.create_server((place.address, port))))
        found = set()
        for source in places:
            others = [(place, port.number) for place in places if place is not source for port in place.pod.ports if port.protocol == "TCP"]
            reached = network.within(source.namespace, lambda others=others: [(place, port) for place, port in others if netns.connects(place.address, port)])
            found |= {(source.pod.name, place.pod.name, str(port)) for place, port in reached}
        for listener in listeners:
            listener.close()
    wanted = {(source, target, port) for source, target, port in reachability.table(two.objects) if target != "world" and source != target and port.isdigit()}
    assert found == wanted
    assert not [(source, target) for source, target, _ in found if {source[-3:], target[-3:]} == {"sp1", "sp2"}]


def route(provider: str, host: str | None = None) -> str:
    host = f'host = "{host}", ' if host else ""
    return f'{{ roles = ["forward"], {host}path = "/", upstreams = ["http://reverse-proxy-{provider}:6193"], health = "/l8_health_check" }}'


def test_each_provider_is_reached_by_its_host_and_tells_callers_apart(cluster: Cluster) -> None:
    cluster.provider("sp1")
    cluster.provider("sp2")
    forward, _ = cluster.serve("gateway-forward", "forward-proxy", ORRERY_GATEWAY__ROUTES=f"[{route('sp1')}, {route('sp2', 'sp2.layer8.local')}]", **SLOW)
    # Probes at the document's paths, asked by the node.
    for pod, workload in (("gateway-forward", "forward-proxy"), ("gateway-reverse-sp1", "reverse-proxy-sp1"), ("gateway-reverse-sp2", "reverse-proxy-sp2")):
        (place,) = [each for each in cluster.network.places if each.pod.name == pod]
        container = cluster.layout.main(workload)
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            cluster.until(place, container[probe]["httpGet"], container, 200)

    for host, provider in (("layer8.local", "sp1"), ("sp2.layer8.local", "sp2")):
        for path, part in (("/api/orders", "backend"), ("/index.html", "frontend")):
            status, _, body = cluster.get(cluster.world, forward, path, 6191, Host=host)
            told = json.loads(body)
            assert (status, told["name"], told["host"], told["path"]) == (200, f"{part}-{provider}", host, path)
            assert told["told"] is None  # a provider learns no address

    # The ingress controller's word on who calls is taken: each caller has a budget of its own. A client's own word is not.
    assert counted(cluster, cluster.ingress, forward, "/", 6191) == 1
    assert counted(cluster, cluster.world, forward, "/", 6191) >= ASKED

    auth, _ = cluster.serve("autha", "auth-server", **SLOW)
    container = cluster.layout.main("auth-server")
    # Without a database it is not ready, and says so at the document's path.
    cluster.until(auth, container["readinessProbe"]["httpGet"], container, 503)
    (backend,) = [place for place in cluster.network.places if place.pod.name == "backend-sp1"]
    assert counted(cluster, cluster.ingress, auth, "/status.json", 5001) == 1
    assert counted(cluster, cluster.world, auth, "/status.json", 5001) >= ASKED
    assert counted(cluster, backend, auth, "/status.json", 5002) >= ASKED
    with pytest.raises(OSError):
        counted(cluster, backend, auth, "/status.json", 5001)


def counted(cluster: Cluster, source: Place, target: Place, path: str, port: int) -> int:
    """How many requests were taken from the caller's budget after some that claim another address each."""
    def ask_all() -> int:
        connection = http.client.HTTPConnection(target.address, port, timeout=20)
        left = []
        for number in range(ASKED):
            connection.request("GET", path, headers={"X-Forwarded-For": f"198.51.100.{number}"})
            answer = connection.getresponse()
            answer.read()
            left.append(int(re.search(r"r=(\d+)", answer.headers["RateLimit"])[1]))
            burst = int(re.search(r"q=(\d+)", answer.headers["RateLimit-Policy"])[1])
        connection.close()
        return burst - min(left)

    return cluster.network.within(source.namespace, ask_all)


def test_a_provider_is_added_while_traffic_runs_and_pods_end_without_losing_a_request(cluster: Cluster) -> None:
    """A further provider is a route more of the forward proxy: its pods are replaced one by one under load. Then one of the first provider's two reverse proxies ends."""
    proxies = cluster.provider("sp1", replicas=2)
    pods = [cluster.serve("gateway-forward", "forward-proxy", ORRERY_GATEWAY__ROUTES=f"[{route('sp1')}]") for _ in range(2)]
    container = cluster.layout.main("forward-proxy")
    clients = Clients(cluster, [place for place, _ in pods])
    try:
        clients.until(30)
        cluster.provider("sp2")
        for place, process in pods:
            new, _ = cluster.serve("gateway-forward", "forward-proxy", ORRERY_GATEWAY__ROUTES=f"[{route('sp1')}, {route('sp2', 'sp2.layer8.local')}]")
            cluster.until(new, container["readinessProbe"]["httpGet"], container, 200)
            clients.targets.append(new)
            cluster.end(place, process, "forward-proxy", lambda place=place: clients.targets.remove(place))
            clients.until(20)
        status, _, body = cluster.get(cluster.world, clients.targets[0], "/api/orders", 6191, Host="sp2.layer8.local")
        assert (status, json.loads(body)["name"]) == (200, "backend-sp2")
        clients.until(20)
        cluster.end(*proxies[0], "reverse-proxy-sp1", lambda: None)
        clients.until(50)
    finally:
        clients.stop()
    assert clients.failed == [], clients.failed[:5]
    assert clients.answered > 200
