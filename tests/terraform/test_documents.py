"""What docs/terraform.md and docs/operate/regions.md say, against the plans, the modules and the schemas of the database."""

import re

import pytest
from conftest import ENVIRONMENTS, ROOT, TERRAFORM, by_plan, plan

REGIONS = (ROOT / "docs" / "operate" / "regions.md").read_text()
GUIDE = (ROOT / "docs" / "terraform.md").read_text()
MIGRATIONS = "\n".join(file.read_text() for file in sorted((ROOT / "migrations").glob("*/up.sql")))
COLUMNS = {"development": 0, "staging": 1, "production": 2, "regions": 3}


def costs() -> dict[str, list[str]]:
    """The table of costs: its rows, by their first cell, with a cell for each size."""
    table = REGIONS.split("## What it costs")[1].split("\n\n")[1]
    rows = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {row[0]: row[1:] for row in rows if not set("".join(row)) <= set("-")}


def dollars(cell: str) -> tuple[int, int]:
    """The least and the most of a cell such as `2 t4g.large: 125` or `60 to 400`."""
    amount = cell.rsplit(":", 1)[-1]
    found = [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", amount)] or [0]
    return min(found), max(found)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_costs_add_up_and_stay_within_the_budget(environment: str) -> None:
    column = COLUMNS[environment]
    rows = {name: cells[column] for name, cells in costs().items() if name}
    together = dollars(rows.pop("together"))[0]
    assert len(rows) == 9
    least, most = (sum(dollars(cell)[index] for cell in rows.values()) for index in (0, 1))
    assert least * 0.95 <= together <= most * 1.05
    (budget,) = by_plan(environment).of("aws_budgets_budget").values()
    assert together <= float(budget["limit_amount"]) <= together * 1.5


@pytest.mark.parametrize("environment", ["development", "staging", "production"])
def test_costs_are_those_of_what_is_made(environment: str) -> None:
    rows, found = {name: cells[COLUMNS[environment]] for name, cells in costs().items()}, by_plan(environment)
    (nodes,) = found.of("aws_eks_node_group").values()
    size = nodes["scaling_config"][0]["min_size"]
    assert rows["nodes with disks"].startswith(f"{size} {nodes['instance_types'][0]}:")
    assert rows["NAT"].startswith(f"{len(found.of('aws_nat_gateway'))}:")
    instances = [each["instance_class"] for each in found.of("aws_rds_cluster_instance").values()]
    database = "serverless" if instances[0] == "db.serverless" else f"{len(instances)} {instances[0]}:"
    assert rows["PostgreSQL, 50 GB"].startswith(database)
    (broker,) = found.of("aws_mq_broker").values()
    assert rows["RabbitMQ"].startswith(f"{3 if broker['deployment_mode'] == 'CLUSTER_MULTI_AZ' else 1} {broker['host_instance_type']}:")
    (cache,) = found.of("aws_elasticache_replication_group").values()
    assert ("2 nodes" in rows["Valkey"]) == (cache["num_cache_clusters"] == 2)
    assert (rows["endpoints of AWS services"] == "none") == (len(found.of("aws_vpc_endpoint")) == 1)


def test_every_module_is_described() -> None:
    table = GUIDE.split("## Modules")[1].split("\n\n")[0]
    assert {folder.name for folder in (TERRAFORM / "modules").iterdir()} <= set(re.findall(r"`(\w+)`", table))


def tables() -> dict[str, str]:
    return {name: body for name, body in re.findall(r"CREATE TABLE ([a-z_.]+) \((.*?)\n\)", MIGRATIONS, re.DOTALL)}


def active_active() -> str:
    return REGIONS.split("### Both regions at once")[1].split("\nNext:")[0]


def test_every_number_from_a_sequence_is_named_as_unsafe_with_two_writers() -> None:
    found = {f"{table}.{column}" for table, body in tables().items() for column in re.findall(r"^\s+(\w+) .*GENERATED ALWAYS AS IDENTITY", body, re.MULTILINE)}
    (row,) = [line for line in active_active().splitlines() if line.startswith("| ids from a sequence")]
    assert found == set(re.findall(r"`([a-z_]+\.[a-z_]+\.\w+)`", row)) and "**not safe**" in row


def test_every_second_unique_value_is_weighed_for_two_writers() -> None:
    found = set()
    for table, body in tables().items():
        for line in body.splitlines():
            inner = re.match(r"\s+UNIQUE \((.*)\)", line)
            if inner:
                found.add(f"{table} ({inner[1]})")
            elif re.match(r"\s+\w+ .*\bUNIQUE\b", line) and "--" not in line:
                found.add(f"{table}.{line.split()[0]}")
    found |= {f"{index}" for index in re.findall(r"CREATE UNIQUE INDEX (\w+)", MIGRATIONS)}
    # Made from an id, or the id of what is never written by two: these are weighed as outbox, partners' log and dead letters.
    found -= {"bus.outbox.id", "partners.log.key", "bus.dead_letters (handler, letter)", "dead_letters_inbox"}
    assert found and {each for each in found if f"`{each}`" not in active_active()} == set()


def test_every_table_without_a_primary_key_is_named_for_two_writers() -> None:
    found = {table for table, body in tables().items() if "PRIMARY KEY" not in body}
    assert found and all(f"`{table}`" in active_active() for table in found)


def test_commands_name_what_is_put_out() -> None:
    for name in re.findall(r"terraform output (?:-json )?(\w+)", REGIONS + GUIDE):
        assert any(name in plan(environment)["output_changes"] for environment in ENVIRONMENTS), name
    assert {name for name in re.findall(r"alarm `([a-z-]+)`", REGIONS)} == {"region-lag"}
    assert any(address.endswith('aws_cloudwatch_metric_alarm.this["region-lag"]') for address in by_plan("regions").of("aws_cloudwatch_metric_alarm"))


@pytest.mark.parametrize("words", ["Nothing here was applied", "Not checked: whether AWS takes the values"])
def test_what_was_not_applied_is_said(words: str) -> None:
    assert words in GUIDE
    assert "Not rehearsed" in REGIONS and "nobody was billed" in REGIONS
