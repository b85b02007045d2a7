#!/usr/bin/env python3
"""Makes every secret that an overlay refers to, with random values that fit together: kubernetes/make_secrets.py layer8 | kubectl create -f -

`create` refuses what is there already: secrets are made once. For production, seal the output (kubeseal), or let External Secrets make them
(components/external-secrets). Nothing is written to a file.
"""

from __future__ import annotations

import base64
import os
import secrets
import sys
from pathlib import Path

import yaml

import render


# What only the operator knows: values with these are examples.
OPERATORS = ("DATABASE-HOST", "BROKER-HOST", "TOKEN-OF-THE-TUNNEL", "name: nobody")


class Values:
    """The values of one installation: the same password at both of its ends."""

    def __init__(self, objects: list[dict]):
        services = {item["metadata"]["name"] for item in objects if item["kind"] == "Service"}
        clusters = {item["kind"] for item in objects}
        self.postgres = "postgres" if "postgres" in services else "postgres-rw" if "Cluster" in clusters else "DATABASE-HOST"
        self.rabbitmq = "rabbitmq" if services & {"rabbitmq"} or "RabbitmqCluster" in clusters else "BROKER-HOST"
        self.made: dict[str, str] = {}

    def word(self, name: str) -> str:
        return self.made.setdefault(name, secrets.token_hex(20))

    def key(self, name: str) -> str:
        return self.made.setdefault(name, base64.b64encode(os.urandom(32)).decode())

    def database(self, user: str, database: str) -> str:
        return f"postgres://{user}:{self.word(f'postgres-{user}')}@{self.postgres}:5432/{database}"

    def of(self, secret: str, key: str) -> str:
        """The value of a key that a pod refers to."""
        known = {
            "database-url": lambda: self.database("orrery", "orrery"),
            # `orrery migrate` makes this user, by the management plugin.
            "broker-url": lambda: f"amqp://orrery:{self.word('broker')}@{self.rabbitmq}:5672/%2f",
            "management-url": lambda: f"http://admin:{self.word('rabbitmq')}@{self.rabbitmq}:15672",
            "master-key": lambda: self.key("master"),
            "mail-key": lambda: self.key("mail"),
            "discovery-key": lambda: self.key("discovery"),
            "console-key": lambda: self.key("console"),
            "partners-key": lambda: self.key("partners"),
            "storage-access-key": lambda: self.word("access")[:20],
            "storage-secret-key": lambda: self.word("storage"),
            "cookie": lambda: self.word("cookie"),
            "users.acl": lambda: f"user default on >{self.word('redis')} ~* &* +@all -@admin -@dangerous\n",
            "url": lambda: f"redis://:{self.word('redis')}@redis:6379",
            "uri": lambda: f"{self.postgres}:5432/orrery?sslmode=prefer",
            "influxdb-token": lambda: self.word("influxdb"),
            "influxdb-org": lambda: "orrery",
            "influxdb-bucket": lambda: "orrery",
            "password": lambda: self.word(secret),
            "username": lambda: "exporter" if secret == "postgres-exporter" else "admin",
            "token": lambda: "TOKEN-OF-THE-TUNNEL",
            "alertmanager.yaml": lambda: "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n",
        }
        if key not in known:
            raise render.Refused(f"{secret} has the key {key}, and no value for it is known here: teach kubernetes/make_secrets.py")
        return known[key]()

    def whole(self, secret: str) -> dict[str, str]:
        """The keys of a secret that becomes the environment of a pod."""
        if secret == "provider-databases-secret":
            return {"PGHOST": self.postgres, "PGPORT": "5432", "PGDATABASE": "orrery", "PGUSER": "orrery", "PGPASSWORD": self.word("postgres-orrery")}
        if secret.startswith("postgres"):
            return {"POSTGRES_DB": "orrery", "POSTGRES_USER": "orrery", "POSTGRES_PASSWORD": self.word("postgres-orrery")}
        if secret.startswith("influxdb"):
            return {
                "DOCKER_INFLUXDB_INIT_MODE": "setup",
                "DOCKER_INFLUXDB_INIT_USERNAME": "admin",
                "DOCKER_INFLUXDB_INIT_PASSWORD": self.word("influxdb-password"),
                "DOCKER_INFLUXDB_INIT_ORG": "orrery",
                "DOCKER_INFLUXDB_INIT_BUCKET": "orrery",
                "DOCKER_INFLUXDB_INIT_ADMIN_TOKEN": self.word("influxdb"),
            }
        if secret.startswith("spa-backend"):
            provider = secret.removeprefix("spa-backend-secret").strip("-") or "sp1"
            return {"DATABASE_URL": self.database(provider, provider)}
        # What a provider's frontend or a proxy keeps secret is its own; an empty secret lets it start.
        return {}


def references(objects: list[dict]) -> dict[str, set[str] | None]:
    """The secrets that pods refer to, with their keys; None: all of it becomes environment variables."""
    found: dict[str, set[str] | None] = {}

    def keys(name: str, *some: str) -> None:
        held = found.setdefault(name, set())
        if held is not None:
            held.update(some)

    for item in objects:
        if item["kind"] == "Alertmanager":
            keys(item["spec"]["configSecret"], "alertmanager.yaml")
        if item["kind"] == "Cluster":
            keys(item["spec"]["bootstrap"]["initdb"]["secret"]["name"], "username", "password")
        spec = item.get("spec", {}).get("template", {}).get("spec") if item["kind"] in ("Deployment", "StatefulSet", "Job") else None
        if not spec:
            continue
        mounted = {volume["name"]: volume["secret"] for volume in spec.get("volumes", []) if "secret" in volume}
        for container in spec.get("initContainers", []) + spec["containers"]:
            for each in container.get("envFrom", []):
                if "secretRef" in each:
                    found[each["secretRef"]["name"]] = None
            for each in container.get("env", []):
                reference = each.get("valueFrom", {}).get("secretKeyRef")
                if reference:
                    keys(reference["name"], reference["key"])
            for mount in container.get("volumeMounts", []):
                secret = mounted.get(mount["name"])
                if not secret:
                    continue
                inside = mount["mountPath"] + "/"
                files = [each["value"].removeprefix(inside) for each in container.get("env", []) if each.get("value", "").startswith(inside)]
                keys(secret["secretName"], *(secret_item["key"] for secret_item in secret.get("items", [])), *files)
                if secret["secretName"] == "redis":
                    keys("redis", "users.acl")
    return found


def make(objects: list[dict]) -> list[dict]:
    """The secrets, as objects."""
    values = Values(objects)
    namespace = next(item["metadata"]["name"] for item in objects if item["kind"] == "Namespace")
    made = []
    for name, keys in sorted(references(objects).items()):
        data = values.whole(name) if keys is None else {key: values.of(name, key) for key in sorted(keys)}
        made.append({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "type": "Opaque", "stringData": data})
    return made


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: kubernetes/make_secrets.py OVERLAY | kubectl create -f -", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    if not (folder / "kustomization.yaml").exists():
        folder = render.OVERLAYS / arguments[0]
    try:
        made = make(render.load(render.render(folder)))
        print(yaml.safe_dump_all(made), end="")
        for item in made:
            for key, value in item["stringData"].items():
                if any(mark in value for mark in OPERATORS):
                    print(f"replace {key} of the secret {item['metadata']['name']}: what stands there is an example", file=sys.stderr)
    except render.Refused as refused:
        print(f"the secrets of {arguments[0]} are not made:\n{refused}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
