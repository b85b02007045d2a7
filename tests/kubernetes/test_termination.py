"""A pod of the gateway ends under load, as the manifest has it: the pause while balancers still lead to it, then SIGTERM, then its grace. No request fails."""

import http.client
import signal
import threading
import time
from http.server import ThreadingHTTPServer

import pytest
from conftest import Answering, layout_of
from test_binary import Process
from test_pods import grace

# How long balancers go on to open connections to a pod that ends: less than the pause.
PROPAGATION = 3
# How long the upstream takes for an answer, so that requests are under way whenever the signal comes.
WORK = 0.2


class Upstream(Answering):
    """In autha's place: answers after a while."""

    def do_GET(self) -> None:
        time.sleep(0 if self.path.startswith("/health") else WORK)
        self.answer({"name": "x"})


class Clients:
    """Eight clients, each with a connection of some requests; a request on a kept connection that was closed unanswered goes once to a new one."""

    def __init__(self, ports: list[int]):
        self.ports, self.stopped = ports, threading.Event()
        self.answered, self.failed = 0, []
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(number,), daemon=True) for number in range(8)]
        for thread in self.threads:
            thread.start()

    def ask(self, connection: http.client.HTTPConnection) -> None:
        connection.request("GET", "/status.json")
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise ValueError(f"{answer.status}")

    def run(self, number: int) -> None:
        turn = number
        while not self.stopped.is_set():
            turn += 1
            ports = self.ports
            port = ports[turn % len(ports)]
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            for request in range(4):
                try:
                    try:
                        self.ask(connection)
                    except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                        if request == 0:
                            raise
                        connection.close()
                        connection = http.client.HTTPConnection("127.0.0.1", self.ports[0], timeout=20)
                        self.ask(connection)
                except (OSError, http.client.HTTPException, ValueError) as error:
                    with self.lock:
                        self.failed.append(f"{port}: {error!r}")
                    break
                with self.lock:
                    self.answered += 1
            connection.close()

    def until(self, count: int, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while self.answered < count:
            assert time.monotonic() < end and not self.failed, self.failed[:3]
            time.sleep(0.02)

    def stop(self) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join(30)


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_no_request_fails_when_a_pod_ends(upstream: str) -> None:
    layout = layout_of("production")
    pod = layout.pod("gateway-edge")
    pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pause > PROPAGATION
    settings = {"ORRERY_GATEWAY__AUTHA": upstream, "ORRERY_GATEWAY__RATES__ENABLED": "false"}
    with Process(layout, "gateway-edge", settings) as staying, Process(layout, "gateway-edge", settings) as ending:
        for each in (staying, ending):
            assert each.status(each.http, "/status.json") == 200
        clients = Clients([staying.http, ending.http])
        try:
            clients.until(50)
            # The pod is deleted: the pause begins, and balancers learn of it late.
            deleted = time.monotonic()
            clients.until(clients.answered + 1)
            while time.monotonic() < deleted + PROPAGATION:
                time.sleep(0.05)
            clients.ports = [staying.http]
            while time.monotonic() < deleted + pause:
                time.sleep(0.05)
            ending.process.send_signal(signal.SIGTERM)
            code = ending.process.wait(grace(layout, pod) + 10)
            assert code == 0, f"the process ended with {code}"
            assert time.monotonic() - deleted < pod["terminationGracePeriodSeconds"], "the pod would have been killed"
            clients.until(clients.answered + 20)
        finally:
            clients.stop()
        assert clients.failed == [], clients.failed[:5]
        assert clients.answered > 200


def test_no_request_fails_when_the_signal_comes_while_it_is_asked(upstream: str) -> None:
    """Without the pause too, what was taken in is finished: requests that are under way when the signal comes."""
    layout = layout_of("production")
    settings = {"ORRERY_GATEWAY__AUTHA": upstream, "ORRERY_GATEWAY__RATES__ENABLED": "false"}
    with Process(layout, "gateway-edge", settings) as process:
        assert process.status(process.http, "/status.json") == 200
        connections = [http.client.HTTPConnection("127.0.0.1", process.http, timeout=20) for _ in range(16)]
        for connection in connections:
            connection.request("GET", "/status.json")
        time.sleep(WORK / 4)
        process.process.send_signal(signal.SIGTERM)
        assert [connection.getresponse().status for connection in connections] == [200] * 16
        assert process.process.wait(30) == 0
