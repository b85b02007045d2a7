"""Another machine, as a network namespace with a cable to this one: what of the stack answers there."""

import json
import subprocess
import sys

from stack import run

NAMESPACE, HERE, THERE = "orrery-outside", "10.213.77.1", "10.213.77.2"
# Every port that some container of ours listens on.
PORTS = (80, 443, 1025, 1883, 2019, 3000, 3900, 3901, 4317, 4318, 4369, 5432, 5672, 6379, 8008, 8025, 8079, 8080, 8081, 8082, 8083, 8084,
         8090, 8443, 9000, 9090, 9093, 9187, 15672, 15692, 16686, 25672)

PROBE = """
import asyncio, json, sys
async def ask(address, port):
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), 1.5)
        writer.close()
        return [address, port]
    except (OSError, asyncio.TimeoutError):
        return None
async def main():
    asked = [ask(address, port) for address in json.loads(sys.argv[1]) for port in json.loads(sys.argv[2])]
    print(json.dumps([found for found in await asyncio.gather(*asked) if found]))
asyncio.run(main())
"""


class Outside:
    """Made on entering, gone on leaving."""

    def __enter__(self):
        run("ip", "netns", "del", NAMESPACE, check=False)
        run("ip", "netns", "add", NAMESPACE)
        run("ip", "link", "add", "orrery-out", "type", "veth", "peer", "name", "eth0", "netns", NAMESPACE)
        run("ip", "addr", "add", f"{HERE}/24", "dev", "orrery-out")
        run("ip", "link", "set", "orrery-out", "up")
        inside = ("ip", "-n", NAMESPACE)
        run(*inside, "addr", "add", f"{THERE}/24", "dev", "eth0")
        run(*inside, "link", "set", "eth0", "up")
        run(*inside, "link", "set", "lo", "up")
        # It may even know the way to the containers' networks.
        run(*inside, "route", "add", "default", "via", HERE)
        self.before = self.answers([HERE])
        return self

    def __exit__(self, *_):
        run("ip", "netns", "del", NAMESPACE, check=False)
        run("ip", "link", "del", "orrery-out", check=False)

    def answers(self, addresses, ports=PORTS):
        """The (address, port) pairs that take a connection from there."""
        said = run("ip", "netns", "exec", NAMESPACE, sys.executable, "-c", PROBE, json.dumps(addresses), json.dumps(ports))
        return {tuple(pair) for pair in json.loads(said.stdout)}

    def published(self):
        """The ports of this machine that answer there and did not before the stack came up."""
        return {port for _, port in self.answers([HERE]) - self.before}

    def get(self, path, port):
        return subprocess.run(
            ["ip", "netns", "exec", NAMESPACE, "curl", "-sS", "-k", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", f"http://{HERE}:{port}{path}"],
            capture_output=True, text=True, check=False).stdout
