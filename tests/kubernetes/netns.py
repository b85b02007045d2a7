"""Pods as network namespaces of this machine: each has the address of a pod, and the node between them lets through what the network policies allow."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
import reachability
from reachability import Pod, Policies, Port

T = TypeVar("T")
NEW_NETWORK = 0x40000000  # CLONE_NEWNET
GATEWAY = "169.254.1.1"
LIBC = ctypes.CDLL(None, use_errno=True)


# As the policies name it.
DNS = Pod("kube-dns", "kube-system", {"k8s-app": "kube-dns"}, [Port(53, "UDP")])


def run(*command: str, given: str | None = None) -> None:
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def needed() -> None:
    """Skips where no namespace can be made."""
    missing = [each for each in ("ip", "nft") if not shutil.which(each)]
    if missing or os.geteuid() != 0:
        pytest.skip("network namespaces need root, ip and nft")
    probe = f"probe-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False).returncode:
        pytest.skip("this machine makes no network namespaces")
    run("ip", "netns", "del", probe)


@dataclass
class Place:
    """One replica of a pod."""

    pod: Pod
    address: str
    namespace: str


class Network:
    """The places, the node between them, and the names of Services. Gone on leaving."""

    def __init__(self, objects: list[dict]):
        self.policies = Policies(objects)
        self.places: list[Place] = []
        self.names: dict[str, list[str]] = {}
        self.node = f"node-{os.getpid()}"
        self.made = 0

    def __enter__(self) -> Network:
        run("ip", "netns", "add", self.node)
        run("ip", "-n", self.node, "link", "set", "lo", "up")
        self.within(self.node, lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1"))
        self.dns = self.add(DNS)
        self.socket = self.within(self.dns.namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.socket.bind((self.dns.address, DNS.ports[0].number))
        threading.Thread(target=self.answer, daemon=True).start()
        return self

    def answer(self) -> None:
        """Tells addresses of names (RFC 1035), IPv4 alone, to be believed for a second; until the socket is closed."""
        with contextlib.suppress(OSError):
            while True:
                asked, who = self.socket.recvfrom(512)
                self.socket.sendto(self.answer_to(asked), who)

    def answer_to(self, asked: bytes) -> bytes:
        labels, at = [], 12
        while asked[at]:
            labels.append(asked[at + 1 : at + 1 + asked[at]].decode())
            at += 1 + asked[at]
        question = asked[12 : at + 5]
        addresses = self.names.get(".".join(labels).lower())
        found = addresses if addresses and question[-4:-2] == b"\0\1" else []
        head = asked[:2] + (b"\x85\x80" if addresses else b"\x85\x83") + struct.pack("!4H", 1, len(found), 0, 0)
        records = (b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 1, 4) + socket.inet_aton(each) for each in found)
        return head + question + b"".join(records)

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        for namespace in (*(place.namespace for place in self.places), self.node):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)
            shutil.rmtree(f"/etc/netns/{namespace}", ignore_errors=True)
        with contextlib.suppress(OSError):
            Path("/etc/netns").rmdir()

    def add(self, pod: Pod) -> Place:
        """A replica, with an address of its own."""
        self.made += 1
        address = pod.address or f"10.244.{self.made // 200}.{self.made % 200 + 1}"
        place = Place(pod, address, f"pod-{os.getpid()}-{self.made}")
        cable, inside = f"pod{self.made}", ("ip", "-n", place.namespace)
        run("ip", "netns", "add", place.namespace)
        self.places.append(place)
        run("ip", "-n", self.node, "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", place.namespace)
        run("ip", "-n", self.node, "addr", "add", f"{GATEWAY}/32", "dev", cable)
        run("ip", "-n", self.node, "link", "set", cable, "up")
        run("ip", "-n", self.node, "route", "add", f"{address}/32", "dev", cable)
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "addr", "add", f"{address}/32", "dev", "eth0")
        run(*inside, "link", "set", "eth0", "up")
        run(*inside, "route", "add", f"{GATEWAY}/32", "dev", "eth0")
        run(*inside, "route", "add", "default", "via", GATEWAY)
        return place

    def name(self, service: str, *places: Place) -> None:
        """The name of a Service, as DNS tells it from now on."""
        self.names[service] = [place.address for place in places]

    def enforce(self) -> None:
        """The policies, as rules of the node, for the places of now. What they refuse is reset and not dropped, so that nobody waits."""
        rules = []
        for target in self.places:
            for source in self.places:
                for port in target.pod.ports:
                    leaves = source.pod.namespace is None or source.pod.name in reachability.NEIGHBOURS or self.policies.allows(source.pod, "Egress", target.pod, port)
                    if leaves and self.policies.allows(target.pod, "Ingress", source.pod, port):
                        rules.append(f"ip saddr {source.address} ip daddr {target.address} {port.protocol.lower()} dport {port.number} accept")
        lines = ["ct state established,related accept", *rules, "meta l4proto tcp reject with tcp reset"]
        chain = "type filter hook forward priority 0; policy drop;\n" + "\n".join(lines)
        # One transaction: nothing is let through, and nothing broken, in between.
        text = f"table inet pods {{}}\ndelete table inet pods\ntable inet pods {{ chain forward {{ {chain}\n}}\n}}\n"
        run("ip", "netns", "exec", self.node, "nft", "-f", "-", given=text)

    def within(self, namespace: str, work: Callable[[], T]) -> T:
        """Does it in a thread of that namespace: sockets that are made there stay there."""
        found: list[T] = []
        failed: list[BaseException] = []

        def body() -> None:
            try:
                with open(f"/run/netns/{namespace}") as file:
                    assert LIBC.setns(file.fileno(), NEW_NETWORK) == 0, os.strerror(ctypes.get_errno())
                found.append(work())
            except BaseException as error:  # handed on to who waits
                failed.append(error)

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return found[0]

    def start(self, place: Place, command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
        """A process there."""
        folder = Path("/etc/netns") / place.namespace
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "resolv.conf").write_text(f"nameserver {self.dns.address}\n")
        with open(log, "wb") as file:
            return subprocess.Popen(["ip", "netns", "exec", place.namespace, *command], env=environment, stdout=file, stderr=file)


def connects(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError:
        return False
    return True
