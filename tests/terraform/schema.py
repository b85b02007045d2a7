"""The provider's schema as the tests and the stand-in know it: schema.json, read out of a package, and schema-own.json, written by hand."""

from __future__ import annotations

import functools
import json
from pathlib import Path

HERE = Path(__file__).resolve().parent


@functools.cache
def types() -> dict[str, dict]:
    """Resources (aws_vpc) and data sources (data.aws_region), by name."""
    known = json.loads((HERE / "schema.json").read_text())["types"]
    own = json.loads((HERE / "schema-own.json").read_text())
    for name, blocks in own["blocks"].items():
        for outer, inner in blocks.items():
            for key, block in inner.items():
                known[name]["blocks"][outer]["attributes"].pop(key, None)
                known[name]["blocks"][outer]["blocks"][key] = block
    return known | own["types"]


def provider_version() -> str:
    return json.loads((HERE / "schema.json").read_text())["provider"]
