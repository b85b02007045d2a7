"""The databases of service providers on a real server: the jobs' own command, twice, and what each provider's login then reaches."""

import glob
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from conftest import Layout, layout_of
import make_secrets
from test_binary import free_port

SUPERUSER = "orrery"


class Server:
    """PostgreSQL in a folder of its own, which asks everybody for a password."""

    def __init__(self, password: str):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[-2]))
        if not found:
            pytest.skip("PostgreSQL is missing: apt-get install postgresql")
        self.bin, self.port = Path(found[-1]), free_port()
        # It refuses to run as root.
        self.user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        self.folder = Path(tempfile.mkdtemp())
        data, secret = self.folder / "data", self.folder / "password"
        secret.write_text(password)
        if self.user:
            for each in (self.folder, secret):
                shutil.chown(each, "postgres", "postgres")
        subprocess.run([self.bin / "initdb", "-D", data, "-U", SUPERUSER, "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync", "--locale=C.UTF-8", "--encoding=UTF8"],
                       check=True, capture_output=True, cwd="/", **self.user)
        arguments = ["-D", data, "-p", str(self.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off"]
        self.process = subprocess.Popen([self.bin / "postgres", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **self.user)
        end = time.monotonic() + 30
        while subprocess.run([self.bin / "pg_isready", "-h", "127.0.0.1", "-p", str(self.port)], capture_output=True, check=False).returncode:
            assert self.process.poll() is None and time.monotonic() < end, "PostgreSQL does not start"
            time.sleep(0.05)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        shutil.rmtree(self.folder)

    def ask(self, user: str, password: str, database: str, sql: str) -> str | None:
        """What psql prints, or nothing where it is refused."""
        environment = {"PATH": os.environ["PATH"], "PGPASSWORD": password, "PGCONNECT_TIMEOUT": "5"}
        done = subprocess.run([self.bin / "psql", "-XqAt", "-h", "127.0.0.1", "-p", str(self.port), "-U", user, "-d", database, "-c", sql],
                              env=environment, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None


@pytest.fixture(scope="module")
def secrets() -> dict[str, dict[str, str]]:
    """Those of layer8, and of a second provider beside the first."""
    objects = layout_of("layer8").objects
    return {item["metadata"]["name"]: item["stringData"] for item in make_secrets.make(objects)}


@pytest.fixture(scope="module")
def server(secrets: dict):
    made = Server(secrets["provider-databases-secret"]["PGPASSWORD"])
    # As the image does at its first start.
    assert made.ask(SUPERUSER, secrets["provider-databases-secret"]["PGPASSWORD"], "postgres", "CREATE DATABASE orrery") is not None
    yield made
    made.stop()


def run(layer8: Layout, server: Server, folder: Path, superuser: dict[str, str], provider: str, password: str) -> subprocess.CompletedProcess[str]:
    """What the job of a provider does, by its manifest."""
    (job,) = layer8.of_kind("Job")
    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    (name,) = [volume["configMap"]["name"] for volume in spec["volumes"]]
    (folder / "database.sql").write_text(layer8.get("ConfigMap", name)["data"]["database.sql"])
    (mount,) = container["volumeMounts"]
    arguments = [each.replace(mount["mountPath"], str(folder)) for each in container["args"]]
    environment = {"PATH": f"{server.bin}:{os.environ['PATH']}", "SP_ID": provider, "DATABASE_URL": f"postgres://{provider}:{password}@postgres:5432/{provider}"}
    environment |= superuser | {"PGHOST": "127.0.0.1", "PGPORT": str(server.port)}
    return subprocess.run([*container["command"], *arguments], env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_a_providers_login_reaches_its_own_database_and_no_other(server: Server, secrets: dict, tmp_path: Path) -> None:
    layer8, superuser = layout_of("layer8"), secrets["provider-databases-secret"]
    first = secrets["spa-backend-secret"]["DATABASE_URL"].split(":")[2].split("@")[0]
    second = "other"
    for _ in range(2):  # harmless to repeat
        for provider, password in (("sp1", first), ("sp2", second)):
            done = run(layer8, server, tmp_path, superuser, provider, password)
            assert done.returncode == 0, done.stderr
    for provider, password, other in (("sp1", first, "sp2"), ("sp2", second, "sp1")):
        assert server.ask(provider, password, provider, "CREATE TABLE IF NOT EXISTS t (x int); INSERT INTO t VALUES (1); SELECT count(*) FROM t") == "1"
        for database in (other, "orrery", "postgres", "template1"):
            assert server.ask(provider, password, database, "SELECT 1") is None, (provider, database)
        assert server.ask(provider, "wrong", provider, "SELECT 1") is None
        for sql in ("CREATE DATABASE more", "CREATE ROLE more", f"SET ROLE {other}", "COPY (SELECT 1) TO PROGRAM 'true'", f"ALTER DATABASE {other} OWNER TO {provider}", "SELECT rolpassword FROM pg_authid"):
            assert server.ask(provider, password, provider, sql) is None, sql
    # The rest goes on.
    assert server.ask(SUPERUSER, superuser["PGPASSWORD"], "orrery", "SELECT 1") == "1"


def test_a_new_password_takes_effect(server: Server, secrets: dict, tmp_path: Path) -> None:
    for password in ("one", "two"):
        assert run(layout_of("layer8"), server, tmp_path, secrets["provider-databases-secret"], "sp3", password).returncode == 0
        assert server.ask("sp3", password, "sp3", "SELECT 1") == "1"
    assert server.ask("sp3", "one", "sp3", "SELECT 1") is None


@pytest.mark.parametrize("provider", ["orrery", "pg_monitor"])
def test_a_provider_called_as_a_role_of_the_server_is_refused(server: Server, secrets: dict, tmp_path: Path, provider: str) -> None:
    done = run(layout_of("layer8"), server, tmp_path, secrets["provider-databases-secret"], provider, "taken")
    assert done.returncode != 0 and "choose another one" in done.stderr
    assert server.ask(provider, "taken", "postgres", "SELECT 1") is None
    assert server.ask(SUPERUSER, secrets["provider-databases-secret"]["PGPASSWORD"], "orrery", "SELECT rolsuper FROM pg_roles WHERE rolname = 'orrery'") == "t"


def test_the_superusers_credential_is_in_no_pod_of_a_provider() -> None:
    layer8 = layout_of("layer8")
    holders = {item["metadata"]["name"] for item in layer8.of_kind("Deployment", "StatefulSet", "Job") if "provider-databases-secret" in make_secrets.references([item])}
    assert holders == {"spa-database-sp1"}
