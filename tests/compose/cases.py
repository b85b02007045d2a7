"""What the layouts of docker/ promise, each a function named case_*; `run` starts the engine before. usage: cases.py [short|full|CASE...]"""

import json
import shutil
import sys
import time
import traceback

import cluster
import image
import layouts
import package
import walls
from app import PICTURE, Person
from cluster import mail_count
from outside import Outside
from stack import SMALL_STORE, Stack, run, within

# What may be left out, and what then stays true: (part, does a mail arrive, does a picture get done). None: it cannot be asked.
PARTS = [("mail", False, True), ("maily", False, True), ("spinoza", True, False), ("s3-folder", True, None)]


def case_stack():
    """The whole system behind the gateway: up, demo, check, walls, rights, down and up again."""
    with Outside() as outside, Stack() as stack:
        began = time.monotonic()
        stack.up()
        print(f"      everything is healthy after {time.monotonic() - began:.0f} s")
        said = stack.operator("demo", "--url", "http://gateway:8080").stdout
        assert "everything is true" in said, said
        print("      " + "\n      ".join(said.strip().splitlines()))
        said = stack.operator("check", check=False)
        print("      orrery check:\n        " + "\n        ".join(said.stdout.strip().splitlines()))
        assert said.returncode == 0, said.stdout
        walls.only_the_gateway(outside, stack)
        walls.networks(stack)
        walls.database(stack)
        walls.broker(stack)
        walls.containers(stack)
        # What people have is in volumes, and a start migrates by itself.
        person = Person("http://127.0.0.1:8080")
        person.sign_up()
        stack.compose("down", "-t", "20")
        stack.up()
        person.log_in()
        print("      after down and up the account is there")
        layouts.memory(stack)


def case_parts():
    """Each optional part left out in turn, then all of them: the rest starts and works."""
    for part, mails, pictures in [*PARTS, ("all", False, None)]:
        drop = [name for name, *_ in PARTS] if part == "all" else [part]
        with Stack(name="orrery-parts", drop=drop) as stack:
            stack.compose("up", "-d", "--no-build", timeout=180)
            person = Person("http://127.0.0.1:8080")
            # Without a store `orrery migrate` says so and goes on trying: the bucket is its last step.
            within(120, lambda: sign_up(person), "nobody could sign up")
            said = []
            if pictures is None:
                status, _, headers = person.ask("PUT", "/users/@me/avatar", PICTURE, "image/jpeg")
                assert status == 503 and headers["retry-after"], f"an upload without a store answered {status}"
                said.append("an upload is answered 503 with Retry-After")
            else:
                location = person.upload()
                if pictures:
                    within(60, lambda: person.state(location) == "done", "the picture was not done")
                    said.append("the picture is done")
                else:
                    assert person.state(location) == "pending"
                    said.append("the upload is taken and waits")
            if mails:
                within(60, lambda: mail_count(stack) >= 1, "no mail arrived")
                said.append("the mail arrives")
            checked = stack.operator("check", check=False).stdout
            if part in ("mail", "s3-folder", "all"):
                wanted = "mail" if part == "mail" else "storage"
                assert any(wanted in line and "ok" not in line.split()[:1] for line in checked.splitlines()), checked
                said.append(f"check says: {next(line for line in checked.splitlines() if wanted in line).strip()}")
            print(f"      without {part}: sign-up 201, {', '.join(said)}")


def sign_up(person):
    person.sign_up()
    return True


def case_update():
    """A service's container replaced while the rest runs: the new one migrates and goes on, and no request is refused for longer than a moment."""
    with Stack(name="orrery-update") as stack:
        stack.up()
        person = Person("http://127.0.0.1:8080")
        person.sign_up()
        stack.compose("up", "-d", "--no-build", "--force-recreate", "autha", "spinoza", "maily", "migrate")
        within(90, stack.is_up, "not everything was healthy again")
        within(30, lambda: person.log_in() is None, "nobody could log in")
        # A service that dies is started again.
        ident = stack.container("maily")
        pid = json.loads(run("docker", "inspect", ident).stdout)[0]["State"]["Pid"]
        run("kill", "-KILL", str(pid))
        within(60, lambda: json.loads(run("docker", "inspect", ident).stdout)[0]["RestartCount"] == 1, "maily was not started again")
        within(60, stack.is_up, "maily was not healthy again")
        print("      replaced and killed containers came back")


def case_backup():
    """A backup of a used installation; everything is lost but it and its key; a new installation restored from it has the same people and pictures."""
    with Stack(name="orrery-backup") as stack:
        stack.up()
        person = Person("http://127.0.0.1:8080")
        person.sign_up()
        location = person.upload()
        within(60, lambda: person.state(location) == "done", "the picture was not done")
        shown = person.icons()
        print("      " + stack.compose("run", "--rm", "-T", "backup", "backup").stdout.strip())
        key = stack.secret("backup.key")
        stack.compose("down", "-t", "20")
        for volume in ("postgres", "rabbitmq", "s3"):
            run("docker", "volume", "rm", f"{stack.name}_{volume}")
        shutil.rmtree(stack.docker / "secrets")
        run(stack.docker / "init", *SMALL_STORE)
        write(stack.docker / "secrets/backup.key", key)
        stack.compose("up", "-d", "--no-build", "postgres", "postgres-roles", "rabbitmq", "s3-folder")
        within(120, lambda: "roles are set" in stack.compose("logs", "postgres-roles").stdout, "the roles were not made")
        # The new installation's keys are not the backup's: it says so, and gives them.
        refused = stack.compose("run", "--rm", "-T", "backup", "restore", check=False)
        assert refused.returncode != 0 and "--keys-into" in refused.stderr, refused.stderr
        stack.compose("run", "--rm", "-T", "backup", "restore", "--keys-into", "/var/lib/orrery/backups")
        ident = run("docker", "create", "-v", f"{stack.name}_backups:/backups", "orrery:local").stdout.strip()
        for name in ("keys.master", "keys.mail"):
            run("docker", "cp", f"{ident}:/backups/{name}", stack.docker / "secrets" / f".{name}")
            write(stack.docker / "secrets" / name, (stack.docker / "secrets" / f".{name}").read_text())
        run("docker", "rm", ident)
        print("      " + stack.compose("run", "--rm", "-T", "backup", "restore").stdout.strip())
        stack.up()
        person.log_in()
        assert shown and person.icons() == shown, "the pictures are others"
        said = stack.operator("demo", "--url", "http://gateway:8080").stdout
        assert "everything is true" in said, said


def write(path, text):
    """A secret, in place of the one that is there; containers read it as another user."""
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(0o444)


CASES = {
    "config": layouts.case_config,
    "init": layouts.case_init,
    "image": image.case_image,
    "package": package.case_package,
    "stack": case_stack,
    "parts": case_parts,
    "update": case_update,
    "backup": case_backup,
    "environments": layouts.case_environments,
    "libra": layouts.case_libra,
    "small": layouts.case_small,
    "cluster": cluster.case_cluster,
    "build": image.case_build,
}
SHORT = ["config", "init", "image", "package", "stack"]


def main(names):
    chosen = []
    for name in names or ["short"]:
        chosen += SHORT if name == "short" else [case for case in CASES if case != "build"] if name == "full" else [name]
    unknown = [name for name in chosen if name not in CASES]
    if unknown:
        sys.exit(f"no such case: {', '.join(unknown)}; there are short, full, {', '.join(CASES)}")
    failed = []
    for name in chosen:
        began = time.monotonic()
        print(f"== {name}: {CASES[name].__doc__.splitlines()[0]}")
        try:
            CASES[name]()
            print(f"   {name} passed, {time.monotonic() - began:.0f} s")
        except Exception:  # told below, and the next case runs
            traceback.print_exc()
            print(f"   {name} FAILED, {time.monotonic() - began:.0f} s")
            failed.append(name)
    print(f"{len(chosen) - len(failed)} of {len(chosen)} cases passed" + (f"; failed: {', '.join(failed)}" if failed else ""))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
