"""One machine outgrown (scale.yaml): a broker node and the database's primary are killed while people sign up; what was answered is there afterwards."""

import json
import threading
import time

from app import Person
from stack import SMALL_STORE, Stack, run, within


class Load:
    """People who sign up and send a picture, one after another in a few threads, and whoever got an answer is remembered."""

    def __init__(self, base, threads=3):
        self.base, self.people, self.refused, self.ends = base, [], 0, threading.Event()
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ends.set()
        for thread in self.threads:
            thread.join()

    def work(self):
        while not self.ends.is_set():
            person = Person(self.base)
            try:
                person.sign_up()
            except (AssertionError, OSError):
                self.refused += 1
                time.sleep(0.3)
                continue
            location = None
            try:
                location = person.upload()
            except (AssertionError, OSError):
                self.refused += 1
            self.people.append((person, location))

    def more(self, seconds, people=10):
        """Waits until so many more have been answered: it works again."""
        had = len(self.people)
        began = time.monotonic()
        within(seconds, lambda: len(self.people) >= had + people, f"{people} more people were not answered")
        return time.monotonic() - began


def kill(stack, service):
    run("docker", "kill", "-s", "KILL", stack.container(service))


def primary(stack):
    for node in ("postgres-1", "postgres-2"):
        said = stack.compose("exec", "-T", node, "psql", "-XqAt", "-U", "postgres", "-h", "/run/postgresql", "-c", "select pg_is_in_recovery()", check=False)
        if said.stdout.strip() == "f":
            return node
    return None


def is_synchronous(stack):
    node = primary(stack)
    said = stack.compose("exec", "-T", node, "psql", "-XqAt", "-U", "postgres", "-h", "/run/postgresql", "-c",
                         "select count(*) from pg_stat_replication where sync_state in ('sync', 'quorum')", check=False) if node else None
    return said is not None and said.stdout.strip() == "1"


def members(stack):
    """The number of members of each quorum queue."""
    said = stack.compose("exec", "-T", "rabbitmq-1", "rabbitmqctl", "-q", "list_queues", "name", "type", "members", "--formatter", "json").stdout
    return {queue["name"]: len(queue["members"]) for queue in json.loads(said) if "quorum" in queue["type"]}


def case_cluster():
    """Three brokers, a replicated database, three of each service: a broker and the primary killed under load, nothing lost that was answered."""
    settings = ("INGRESS_HTTPS=8443", "INGRESS_HTTP=8081", "INGRESS_TLS=internal", "ORRERY_DOMAIN=localhost")
    init = (*SMALL_STORE, "--postgres", "postgres-1,postgres-2")
    with Stack("scale.yaml", name="orrery-scale", init=init, settings=settings).unthrottled() as stack:
        stack.up(seconds=300)
        within(60, lambda: is_synchronous(stack), "the replica was not synchronous")
        within(90, lambda: set(members(stack).values()) == {3}, "not every queue had three members")
        print(f"      up: {len(stack.containers())} containers, {len(members(stack))} quorum queues with three members each")
        with Load("https://localhost:8443") as load:
            load.more(60, 20)
            kill(stack, "rabbitmq-2")
            after_broker = load.more(60)
            print(f"      a broker was killed; 10 more people were answered within {after_broker:.1f} s")
            stack.compose("start", "rabbitmq-2")
            old = primary(stack)
            kill(stack, old)
            began = time.monotonic()
            new = within(90, lambda: (lambda node: node if node != old else None)(primary(stack)), "no replica became the primary")
            print(f"      the primary {old} was killed; {new} is the primary after {time.monotonic() - began:.1f} s")
            load.more(60)
            print(f"      10 more people were answered {time.monotonic() - began:.1f} s after the kill")
            stack.compose("start", old)
            load.more(60)
        within(120, lambda: is_synchronous(stack), "the former primary did not come back as a synchronous replica")
        people, pictures = load.people, [(person, location) for person, location in load.people if location]
        for person, _ in people:
            person.log_in()
        within(180, lambda: all(person.state(location) == "done" for person, location in pictures), "a picture that was taken was not done")
        mails = within(120, lambda: (lambda count: count if count >= len(people) else None)(mail_count(stack)), "a welcome mail is missing")
        print(f"      {len(people)} people answered ({load.refused} refused meanwhile), all can log in; {len(pictures)} pictures taken, all done; {mails} mails")


def mail_count(stack):
    asked = "import urllib.request;print(urllib.request.urlopen('http://127.0.0.1:8025').read().decode())"
    return json.loads(stack.compose("exec", "-T", "mail", "python3", "-c", asked).stdout)["messages"]
