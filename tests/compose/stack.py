"""An installation of docker/ in a folder of its own, on the engine that `run` started: up, wait, ask, down. What is asked of it lives in cases.py."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
HOME = pathlib.Path(os.environ["COMPOSE_TEST_HOME"])
# The machine of the test may allow fewer open files than a production host.
# Garage is not to be had here.
SMALL_STORE = ("--s3", "folder", "--environment", "staging")
SETTINGS = ["RABBITMQ_NOFILE=4096"]


def run(*command, check=True, timeout=300, **options):
    """Runs a command and gives what it said; both of its streams in what is raised."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, **options)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done


def within(seconds, condition, otherwise):
    """Waits until the condition gives something true, and gives that."""
    end, last = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            found = condition()
            if found:
                return found
        except (AssertionError, OSError) as error:
            last = error
        time.sleep(0.3)
    raise AssertionError(f"{otherwise} within {seconds} s" + (f": {last}" if last else ""))


class Stack:
    """One installation. Leaving the `with` takes everything down, volumes too."""

    def __init__(self, *files, name="orrery-test", init=SMALL_STORE, settings=(), drop=()):
        self.folder, self.name = HOME / "installation" / name, name
        shutil.rmtree(self.folder, ignore_errors=True)
        for part in ("docker", "observability"):
            shutil.copytree(REPOSITORY / part, self.folder / part, ignore=shutil.ignore_patterns("secrets", ".env", "src"))
        self.docker = self.folder / "docker"
        run(self.docker / "init", *init)
        with open(self.docker / ".env", "a") as env:
            env.writelines(f"{line}\n" for line in (*SETTINGS, *settings))
        self.files = files or ("compose.yaml",)
        for part in drop:
            self.without(part)

    def unthrottled(self):
        """People of one address may sign up, log in and upload as fast as they can: a test has one address, an installation many."""
        asked = {
            "ORRERY_GATEWAY__RATES__ENABLED": "false",
            "ORRERY_AUTHA__THROTTLE__TRUSTED_NETWORKS": '["0.0.0.0/0", "::/0"]',
        }
        whole = json.loads(self.compose("--profile", "*", "config", "--format", "json").stdout)
        doors = [name for name in whole["services"] if re.fullmatch(r"gateway|orrery|autha(-\d)?", name)]
        file = self.docker / "unthrottled.yaml"
        file.write_text(json.dumps({"services": {name: {"environment": asked} for name in doors}}))
        self.files += (file.name,)
        return self

    def without(self, part):
        """Deletes the part's line, as an operator does."""
        file = self.docker / self.files[0]
        lines = file.read_text().splitlines(keepends=True)
        kept = [line for line in lines if not re.search(rf"(parts|scale)/{part}\.yaml", line)]
        assert len(kept) < len(lines), f"{file} has no part {part}"
        file.write_text("".join(kept))

    def command(self, *arguments):
        files = [word for file in self.files for word in ("-f", self.docker / file)]
        return ["docker", "compose", "-p", self.name, "--env-file", self.docker / ".env", *files, *arguments]

    def compose(self, *arguments, **options):
        return run(*self.command(*arguments), **options)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            logs = HOME / f"{self.name}.log"
            logs.write_text(self.compose("logs", "--no-color", check=False).stdout)
            print(f"      the containers' logs: {logs}")
        self.compose("--profile", "*", "down", "-v", "-t", "20", check=False)

    def up(self, *services, seconds=180):
        """Starts everything and waits until all of it is healthy, or has done its only work."""
        self.compose("up", "-d", "--quiet-pull", "--no-build", *services, timeout=seconds)
        within(seconds, self.is_up, "not everything was healthy")

    def containers(self):
        said = self.compose("ps", "-a", "--format", "json").stdout.strip()
        return [json.loads(line) for line in said.splitlines()] if said else []

    def is_up(self):
        waits = []
        for one in self.containers():
            done = one["State"] == "exited" and one["ExitCode"] == 0 and one["Service"] in ("migrate", "postgres-roles", "s3-volume")
            fine = one["State"] == "running" and one["Health"] in ("", "healthy") and one["Service"] not in ("migrate", "postgres-roles")
            if fine and not one["Health"]:
                # Without a check of its own it may be about to fail again.
                fine = run("docker", "inspect", "-f", "{{.RestartCount}}", one["ID"]).stdout.strip() == "0"
            if not (done or fine):
                waits.append(f"{one['Service']} is {one['State']} {one['Health']}")
        if waits:
            raise AssertionError(", ".join(waits))
        return True

    def services(self):
        return self.compose("config", "--services").stdout.split()

    def secret(self, name):
        return (self.docker / "secrets" / name).read_text().strip()

    def container(self, service):
        return self.compose("ps", "-q", service).stdout.split()[0]

    def addresses(self):
        """Every address of every container: (service, network, address)."""
        found = []
        for one in self.containers():
            if one["State"] != "running":
                continue
            described = json.loads(run("docker", "inspect", one["ID"]).stdout)[0]
            for network, settings in described["NetworkSettings"]["Networks"].items():
                if settings["IPAddress"]:
                    found.append((one["Service"], network, settings["IPAddress"]))
        return found

    def operator(self, *arguments, **options):
        return self.compose("run", "--rm", "-T", "operator", *arguments, **options)

    def sql(self, role, statement, check=True):
        """As a role of the database, by its password, over the network as a service does."""
        url = f"postgres://{role}:{self.secret('postgres.' + role)}@127.0.0.1/orrery"
        return self.compose("exec", "-T", "postgres", "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", url, "-c", statement, check=check)
