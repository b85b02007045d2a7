#!/usr/bin/env python3
"""Stands in for a Terraform provider, so that the real program validates and plans without the registry, an account or the network.

It speaks the plug-in protocol (version 5) and knows the schemas of schema.py. Plans take what the configuration says; what the provider would tell
is unknown, but for the data sources below. It cannot apply. STAND_IN_NAME says whose place it takes: aws or random.
"""

from __future__ import annotations

import json
import os
import threading
from concurrent import futures

import grpc
import msgpack

import schema as schema_of

COOKIE = ("TF_PLUGIN_MAGIC_COOKIE", "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2")
UNKNOWN = msgpack.ExtType(0, b"\x00")
SERVICE = "tfplugin5.Provider"
NAME = os.environ.get("STAND_IN_NAME", "aws")

DATA = {
    "data.aws_region": {"region": "eu-central-1", "name": "eu-central-1", "id": "eu-central-1"},
    "data.aws_caller_identity": {"account_id": "123456789012", "arn": "arn:aws:iam::123456789012:role/planner", "user_id": "planner", "id": "123456789012"},
    "data.aws_partition": {"partition": "aws", "dns_suffix": "amazonaws.com", "reverse_dns_prefix": "com.amazonaws", "id": "aws"},
}


# ---- the wire: the few messages of the protocol that a plan needs


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def bytes_field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def number_field(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value) if value else b""


def fields(message: bytes) -> dict[int, bytes]:
    """The length-delimited fields of a message; of one that is repeated the last."""
    found, at = {}, 0

    def read() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        tag = read()
        if tag & 7 == 2:
            length = read()
            found[tag >> 3] = message[at : at + length]
            at += length
        else:
            read()
    return found


def dynamic(value: object) -> bytes:
    return bytes_field(1, msgpack.packb(value))


def value_of(message: bytes | None) -> object:
    packed = fields(message or b"").get(1)
    return msgpack.unpackb(packed, strict_map_key=False, ext_hook=lambda _code, _data: UNKNOWN) if packed else None


# ---- schemas


def type_json(type_: object) -> object:
    """Terraform's notation of a type."""
    if isinstance(type_, list):
        return [type_[0], type_json(type_[1])]
    return "dynamic" if type_ == "any" else type_


def attribute(name: str, of: dict) -> bytes:
    read_only = of.get("read_only", False)
    # Which optional attributes the provider fills in is not in the package: all of them may be.
    return (
        bytes_field(1, name.encode())
        + bytes_field(2, json.dumps(type_json(of["type"])).encode())
        + number_field(4, of["required"])
        + number_field(5, not of["required"] and not read_only)
        + number_field(6, not of["required"])
    )


NESTING = {"single": 1, "list": 2, "set": 3, "map": 4}


def block(of: dict, in_set: bool = False) -> bytes:
    # What the provider tells inside of a set has no place in a plan, and a set knows no dynamic types.
    kept = {name: each for name, each in of["attributes"].items() if not (in_set and each.get("read_only"))}
    if in_set:
        kept = {name: {**each, "type": "string"} if each["type"] == "any" else each for name, each in kept.items()}
    out = b"".join(bytes_field(2, attribute(name, each)) for name, each in sorted(kept.items()))
    for name, each in sorted(of["blocks"].items()):
        required = each["required"] and each["nesting"] in ("list", "set")
        out += bytes_field(3, bytes_field(1, name.encode()) + bytes_field(2, block(each, in_set or each["nesting"] == "set")) + number_field(3, NESTING[each["nesting"]]) + number_field(4, required))
    return out


def schema(of: dict) -> bytes:
    return bytes_field(2, block(of))


PROVIDERS = {
    "aws": {
        "attributes": {name: {"type": "string", "required": False} for name in ("region", "profile")},
        "blocks": {"default_tags": {"nesting": "list", "required": False, "attributes": {"tags": {"type": ["map", "string"], "required": False}}, "blocks": {}}},
    },
    "random": {"attributes": {}, "blocks": {}},
}


TYPES = {name: of for name, of in schema_of.types().items() if name.removeprefix("data.").startswith(f"{NAME}_")}


# ---- planning


def certificate_options(config: dict) -> object:
    """What the provider tells of a certificate before there is one: for which names it has to be proven."""
    names = {config["domain_name"], *(listed(config.get("subject_alternative_names")) or [])}
    kind = ["list", ["object", {key: "string" for key in ("domain_name", "resource_record_name", "resource_record_type", "resource_record_value")}]]
    told = {"resource_record_name": UNKNOWN, "resource_record_type": UNKNOWN, "resource_record_value": UNKNOWN}
    return [json.dumps(kind).encode(), [{"domain_name": name, **told} for name in sorted(names)]]


def planned(value: object, of: dict, data: dict | None = None, in_set: bool = False) -> object:
    """The configuration with what the provider would tell as unknown; of a data source with what `data` says, and nothing unknown."""
    if not isinstance(value, dict):
        return value
    out = dict(value)
    for name, each in of["attributes"].items():
        if out.get(name) is None and name in out and not in_set:
            if data is not None:
                out[name] = data.get(name)
            elif each.get("read_only") or name == "id":
                out[name] = UNKNOWN
    for name, each in of["blocks"].items():
        held = out.get(name)
        if isinstance(held, list):
            out[name] = [planned(entry, each, None, in_set or each["nesting"] == "set") for entry in held]
        elif isinstance(held, dict):
            out[name] = planned(held, each, None, in_set)
    return out


def listed(value: object) -> list | None:
    """A list without its unknown ones; none when all of it is unknown."""
    if value is None:
        return []
    return list(value) if isinstance(value, list) and UNKNOWN not in value else None


def policy(config: dict) -> object:
    """The JSON of an IAM policy document, unknown as soon as a part of it is."""
    statements = []
    for each in config.get("statement") or []:
        made: dict = {"Effect": each.get("effect") or "Allow"}
        if each.get("sid"):
            made["Sid"] = each["sid"]
        for key, name in (("actions", "Action"), ("not_actions", "NotAction"), ("resources", "Resource"), ("not_resources", "NotResource")):
            if each.get(key):
                values = listed(each[key])
                if values is None:
                    return UNKNOWN
                made[name] = sorted(values)
        for principal in each.get("principals") or []:
            if listed(principal["identifiers"]) is None:
                return UNKNOWN
            made.setdefault("Principal", {})[principal["type"]] = sorted(principal["identifiers"])
        for condition in each.get("condition") or []:
            if listed(condition["values"]) is None:
                return UNKNOWN
            made.setdefault("Condition", {}).setdefault(condition["test"], {})[condition["variable"]] = condition["values"]
        statements.append(made)
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def get_schema(_request: bytes) -> bytes:
    out = bytes_field(1, schema(PROVIDERS[NAME]))
    for name, of in sorted(TYPES.items()):
        number, short = (3, name.removeprefix("data.")) if name.startswith("data.") else (2, name)
        out += bytes_field(number, bytes_field(1, short.encode()) + bytes_field(2, schema(of)))
    return out


def prepare(request: bytes) -> bytes:
    return bytes_field(1, fields(request).get(1, b""))


def plan(request: bytes) -> bytes:
    given = fields(request)
    proposed = value_of(given.get(3))
    if proposed is None:
        return bytes_field(1, dynamic(None))
    name = given[1].decode()
    after = planned(proposed, TYPES[name])
    if name == "aws_acm_certificate":
        after["domain_validation_options"] = certificate_options(proposed)
    return bytes_field(1, dynamic(after)) + number_field(5, 1)


def read_data(request: bytes) -> bytes:
    given = fields(request)
    name, config = f"data.{given[1].decode()}", value_of(given[2])
    data = dict(DATA.get(name, {}))
    if name == "data.aws_iam_policy_document":
        data = {"json": policy(config), "id": "document"}
        data["minified_json"] = data["json"]
    return bytes_field(1, dynamic(planned(config, TYPES[name], data)))


def configure(request: bytes) -> bytes:
    """Each provider of a configuration is a process of its own, in its own region."""
    region = (value_of(fields(request).get(2)) or {}).get("region")
    if isinstance(region, str):
        DATA["data.aws_region"] = {"region": region, "name": region, "id": region}
    return b""


def refuse(_request: bytes) -> bytes:
    return bytes_field(2, number_field(1, 1) + bytes_field(2, b"the stand-in cannot apply"))


METHODS = {
    "GetSchema": get_schema,
    "PrepareProviderConfig": prepare,
    "ValidateResourceTypeConfig": lambda _request: b"",
    "ValidateDataSourceConfig": lambda _request: b"",
    "Configure": configure,
    "PlanResourceChange": plan,
    "ReadDataSource": read_data,
    "ApplyResourceChange": refuse,
    "Stop": lambda _request: b"",
}


def main() -> None:
    if os.environ.get(COOKIE[0]) != COOKIE[1]:
        raise SystemExit("this is a plug-in of Terraform, which starts it")
    over = threading.Event()
    handlers = {name: grpc.unary_unary_rpc_method_handler(lambda request, _context, method=method: method(request)) for name, method in METHODS.items()}
    server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)])

    def shut_down(_request: bytes, _context: object) -> bytes:
        over.set()
        return b""

    server.add_generic_rpc_handlers((
        grpc.method_handlers_generic_handler(SERVICE, handlers),
        grpc.method_handlers_generic_handler("plugin.GRPCController", {"Shutdown": grpc.unary_unary_rpc_method_handler(shut_down)}),
    ))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"1|5|tcp|127.0.0.1:{port}|grpc", flush=True)
    parent = os.getppid()
    # Terraform ends it; when Terraform is killed, it ends by itself.
    while not over.wait(1):
        if os.getppid() != parent:
            break
    server.stop(1)


if __name__ == "__main__":
    main()
