"""The other layouts and what can be said of all without starting them: files, settings, environments, libra, the small machine."""

import http.server
import json
import os
import pathlib
import re
import stat
import threading
import time
import urllib.request

from app import Person
from outside import HERE, Outside
from stack import HOME, Stack, run, within

LAYOUTS = ("compose.yaml", "development.yaml", "staging.yaml", "production.yaml", "single.yaml", "libra.yaml", "scale.yaml")


def described(stack, *profiles):
    chosen = [word for profile in profiles or ("*",) for word in ("--profile", profile)]
    return json.loads(run(*stack.command(*chosen, "config", "--format", "json")).stdout)


def case_config():
    """Every layout is read by Compose, with each part's line deleted too; all parts have limits and no container has a default password."""
    for name in LAYOUTS:
        stack = Stack(name, name=f"orrery-config-{re.sub('[^a-z]', '', name)}")
        whole = described(stack)
        for service, one in whole["services"].items():
            where = f"{name}: {service}"
            assert one.get("read_only") and one.get("cap_drop") == ["ALL"], f"{where} is not read-only without capabilities"
            assert one.get("restart") or service == "operator" or one.get("deploy"), f"{where} does not restart"
            assert "@sha256:" in one["image"] or re.search(r":[\w.-]+$", one["image"]) and not one["image"].endswith(":latest"), one["image"]
            for key, value in (one.get("environment") or {}).items():
                assert not re.search(r"PASSWORD$|SECRET$|(?<!CLUSTER_)TOKEN$", key) or not value, f"{where} has {key} in the open"
        parts = re.findall(r"(?:parts|scale)/([a-z0-9-]+)\.yaml", (stack.docker / name).read_text())
        for part in parts:
            text = (stack.docker / name).read_text()
            stack.without(part)
            run(*stack.command("--profile", "*", "config", "-q"))
            (stack.docker / name).write_text(text)
        print(f"      {name}: {len(whole['services'])} services; read with each of {len(parts)} parts left out")


def case_init():
    """docker/init: keys and passwords are random, kept, changed one at a time, and no one else's to read."""
    one, two = Stack(name="orrery-init-one"), Stack(name="orrery-init-two")
    def secrets(stack):
        return {file.name: file.read_text() for file in (stack.docker / "secrets").iterdir()}
    first, other = secrets(one), secrets(two)
    made = [name for name, text in first.items() if re.match(r"(postgres|rabbitmq|keys|redis|grafana|garage|storage)\.", name) and name != "redis.conf"]
    assert len({first[name] for name in made}) == len(made), "two secrets are the same"
    assert not [name for name in made if first[name] == other[name]], "two installations share a secret"
    run(one.docker / "init")
    assert secrets(one) == first, "a second run changed something"
    run(one.docker / "init", "--rotate", "postgres.orrery_maily")
    changed = {name for name, text in secrets(one).items() if text != first[name]}
    assert changed == {"postgres.orrery_maily", "database_url.orrery_maily"}, changed
    folder = os.stat(one.docker / "secrets")
    assert stat.S_IMODE(folder.st_mode) == 0o700, oct(folder.st_mode)
    for word in ("guest", "changeme", "postgres:postgres", "admin:admin"):
        assert not any(word in text for text in first.values()), word
    print(f"      {len(first)} files, {len(made)} of them secrets of their own")


def case_environments():
    """What each environment shows to another machine: development frontend, backend, database; staging the frontend; production the ingress."""
    wanted = {
        "development": ({8080, 8081, 5432, 15672, 8025}, (f"DEVELOPMENT_ADDRESS={HERE}",)),
        "staging": ({8080}, ()),
        "production": ({8443, 8081}, ("INGRESS_HTTPS=8443", "INGRESS_HTTP=8081", "INGRESS_TLS=internal")),
    }
    for name, (ports, settings) in wanted.items():
        with Outside() as outside, Stack(
            f"{name}.yaml", name="orrery-environment",
            init=("--s3", "folder", "--environment", name, "--domain", "id.orrery.test"), settings=settings,
        ) as stack:
            stack.up()
            answering = outside.published()
            assert answering == ports, f"{name}: {sorted(answering)} answer from outside, wanted {sorted(ports)}"
            if name == "production":
                assert "postgres-exporter" in {one["Service"] for one in stack.containers()}
                said = run("ip", "netns", "exec", "orrery-outside", "curl", "-sS", "-k", "--resolve", f"id.orrery.test:8443:{HERE}", "--tlsv1.2",
                           "-o", "/dev/null", "-w", "%{http_code} %{ssl_verify_result}", "https://id.orrery.test:8443/health/ready").stdout
                assert said.startswith("200"), said
                old = run("ip", "netns", "exec", "orrery-outside", "curl", "-sS", "-k", "--resolve", f"id.orrery.test:8443:{HERE}", "--tls-max", "1.1",
                          "https://id.orrery.test:8443/", check=False)
                assert old.returncode != 0, "TLS 1.1 was taken"
            print(f"      {name}: {sorted(ports)} answer from outside")


class App1(http.server.BaseHTTPRequestHandler):
    """An app on the developer's machine."""

    def do_GET(self):
        body = b"app1"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def cpu_seconds(stack, service):
    """What its process has used: a password's hash is nearly all of a login's work."""
    pid = run("docker", "inspect", "-f", "{{.State.Pid}}", stack.container(service)).stdout.strip()
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def case_libra():
    """libra in development: clients by the edge to App1 outside and to the API; apps come in by the API proxy, over three replicas."""
    server = http.server.ThreadingHTTPServer(("0.0.0.0", 3311), App1)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with Outside() as outside, Stack("libra.yaml", name="orrery-libra", settings=("APP1=host.docker.internal:3311",)).unthrottled() as stack:
            stack.up()
            read = lambda url: urllib.request.urlopen(url, timeout=10).read()
            assert read("http://127.0.0.1:8080/") == b"app1"
            assert json.loads(read("http://127.0.0.1:8080/api/status.json"))
            assert outside.published() == {8080}, outside.published()
            person = Person("http://127.0.0.1:8079")
            person.sign_up()
            replicas = [f"autha-{number}" for number in (1, 2, 3)]
            before = {name: cpu_seconds(stack, name) for name in replicas}
            for _ in range(60):
                person.log_in()
            spent = {name: cpu_seconds(stack, name) - before[name] for name in replicas}
            assert all(seconds > sum(spent.values()) * 0.15 for seconds in spent.values()), f"the replicas did not share: {spent}"
            # One replica away: the apps do not notice.
            stack.compose("stop", "autha-2")
            for _ in range(20):
                person.log_in()
            shares = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in spent.items())
            print(f"      the edge leads to App1 and to the API; 60 logins by the API proxy took processor time of {shares}; one stopped, 20 more answered")
    finally:
        server.shutdown()


def memory(stack):
    """What each container takes, without the page cache that the kernel would give back."""
    total, told = 0, []
    for line in run("docker", "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}", *[one["ID"] for one in stack.containers() if one["State"] == "running"]).stdout.splitlines():
        name, used = line.split()[:2]
        number, unit = re.match(r"([\d.]+)(\w+)", used).groups()
        size = float(number) * {"KiB": 1 / 1024, "MiB": 1, "GiB": 1024}[unit]
        total += size
        told.append(f"{name.removeprefix(stack.name + '-').rsplit('-', 1)[0]} {size:.0f}")
    print(f"      memory, MiB: {', '.join(sorted(told))}; together {total:.0f}")
    return total


def case_small():
    """A machine of 1 GB: the single process with PostgreSQL, RabbitMQ and store in one cgroup of 1 GB; idle, and after 200 people."""
    group = pathlib.Path("/sys/fs/cgroup/memory/orrery-small")
    if not group.parent.is_dir():
        print("      not tried: no cgroup 1 memory controller")
        return
    group.mkdir(exist_ok=True)
    (group / "memory.use_hierarchy").write_text("1")
    (group / "memory.limit_in_bytes").write_text(str(1024**3))
    with Stack("single.yaml", name="orrery-small").unthrottled() as stack:
        lines = [f"  {service}: {{cgroup_parent: /orrery-small}}\n" for service in described(stack)["services"]]
        (stack.docker / "test.yaml").write_text("services:\n" + "".join(lines))
        stack.files += ("test.yaml",)
        stack.up()
        stack.operator("demo", "--url", "http://gateway:8080")
        time.sleep(5)
        idle = memory(stack)
        people = [Person("http://127.0.0.1:8080") for _ in range(200)]
        began = time.monotonic()
        locations = []
        for person in people:
            person.sign_up()
            locations.append((person, person.upload()))
        within(120, lambda: all(person.state(location) == "done" for person, location in locations), "not all pictures were done")
        took = time.monotonic() - began
        after = memory(stack)
        peak = int((group / "memory.max_usage_in_bytes").read_text()) / 2**20
        failures = int((group / "memory.failcnt").read_text())
        killed = [one["Service"] for one in stack.containers() if one["State"] != "running" and one["ExitCode"] == 137]
        assert not killed, killed
        print(f"      idle {idle:.0f} MiB, after 200 people with a picture each ({took:.0f} s) {after:.0f} MiB, the cgroup's peak with page cache {peak:.0f} of 1024 MiB, "
              f"limit met {failures} times")
