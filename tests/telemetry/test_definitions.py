"""One place for each alert, and a runbook for each: what is made is made of today's definitions, and each runbook can be followed."""

import re

import pytest
import yaml
from conftest import DEFINITIONS, OBSERVABILITY, ROOT, RUNBOOKS, known, labels_in, load, make, metrics_in, ours, tool

NAMES = [alert["name"] for alert in DEFINITIONS["alerts"]]
# Labels that scraping adds.
TARGET = {"job", "instance", "workload", "namespace", "pod"}


def test_what_is_made_is_of_today() -> None:
    """Otherwise run observability/make."""
    tool(str(OBSERVABILITY / "make"), "--check")


def test_prometheus_and_its_operator_have_the_same_rules() -> None:
    here = [group for name in ("recordings", "alerts") for group in load(OBSERVABILITY / "prometheus" / "rules" / f"{name}.yml")["groups"]]
    assert load(ROOT / "kubernetes" / "components" / "monitoring" / "rules.yaml")["spec"]["groups"] == here


@pytest.mark.parametrize("change", [
    {"name": "OrreryDeadLetters"}, {"severity": "loud"}, {"figure": "moon"}, {"expr": "up"}, {"above": 0, "below": 1}, {"colour": "red"},
], ids=str)
def test_a_definition_that_cannot_be_is_refused(change: dict, tmp_path, monkeypatch) -> None:
    text = (OBSERVABILITY / "alerts.toml").read_text()
    lines = "".join(f"{key} = {value!r}\n" for key, value in ({"name": "New", "group": "bus", "severity": "ticket", "figure": "dead_letters", "summary": "x"} | change).items())
    lines += "" if "above" in change else "above = 0\n"
    (tmp_path / "alerts.toml").write_text(f"{text}\n[[alerts]]\n{lines}")
    monkeypatch.setattr(make, "HERE", tmp_path)
    with pytest.raises(make.Wrong):
        make.definitions()


@pytest.mark.parametrize("alert", DEFINITIONS["alerts"], ids=NAMES)
def test_an_alert_asks_for_metrics_and_labels_that_exist(alert: dict) -> None:
    query = make.expression(alert, DEFINITIONS["figures"])
    assert metrics_in(query) - known() == set()
    for metric, label in labels_in(query):
        assert metric not in ours() or label in ours()[metric] | TARGET, f"{metric} has no label {label}"


@pytest.mark.parametrize("each", DEFINITIONS["recordings"], ids=lambda each: each["name"])
def test_a_recording_asks_for_metrics_that_exist(each: dict) -> None:
    assert metrics_in(each["expr"]) - known() == set()


def test_a_figure_says_by_what_it_is_told_apart() -> None:
    for name, figure in DEFINITIONS["figures"].items():
        assert figure.keys() == {"is", "unit", "labels", "promql", "asked"}, name
        assert figure["asked"].keys() in ({"command", "list", "label", "value"}, {"system"}), name
        used = [alert for alert in DEFINITIONS["alerts"] if alert.get("figure") == name]
        assert used, f"no alert uses the figure {name}"
        for alert in used:
            assert set(re.findall(r"\{(\w+)\}", alert["summary"])) <= {"value", *figure["labels"]}, alert["name"]


def test_the_small_installation_can_watch_dead_letters_lag_disk_and_certificates() -> None:
    watched = {alert["figure"] for alert in DEFINITIONS["alerts"] if "figure" in alert}
    assert {"dead_letters", "outbox_age", "disk_free", "certificate_days"} <= watched


# ---------------------------------------------------------------- runbooks


def test_each_alert_has_a_runbook_and_each_runbook_its_alert() -> None:
    assert {file.stem for file in RUNBOOKS.glob("*.md")} - {"README"} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_runbook_says_what_it_means_how_to_see_it_and_how_to_mend_it(name: str) -> None:
    text = (RUNBOOKS / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    parts = re.split(r"^## ", text, flags=re.MULTILINE)
    assert [part.split("\n", 1)[0] for part in parts[1:]] == ["What it means", "How to see it", "How to mend it"]
    for part in parts[1:]:
        assert len(part.split()) > 12, f"{name}: {part.splitlines()[0]} says nothing"
    assert "```sh" in text, f"{name} has no command"
    assert f"[{name}]({name}.md)" in (RUNBOOKS / "README.md").read_text(), f"the index lacks {name}"


def commands() -> dict[str, set[str]]:
    """The commands of the binary with their options, as its sources define them, and of each the commands below it."""
    folder = ROOT / "services" / "orrery" / "src"
    options: dict[str, set[str]] = {}
    for top, file in {"queues": "queues", "events": "events.rs", "keys": "rotation.rs", "mail": "mail.rs", "account": "account.rs"}.items():
        files = sorted((folder / file).glob("*.rs")) if (folder / file).is_dir() else [folder / file]
        options[top] = set()
        for each in files:
            source = each.read_text()
            for attribute, field in re.findall(r"#\[arg\(([^\]]*)\)\]\s*(?:pub )?(\w+):", source):
                if "long" in attribute:
                    named = re.search(r'long = "([\w-]+)"', attribute)
                    options[top].add("--" + (named[1] if named else field.replace("_", "-")))
    options |= {"serve": set(), "migrate": set(), "check": {"--print"}, "health": set(), "demo": {"--url"}, "s3": {"--listen", "--root"}}
    return options


BELOW = {
    "queues": {"list", "watch", "dead", "purge"}, "events": {"drop", "list", "replay"}, "mail": {"test", "release", "suppressed"}, "keys": {"rotate"},
    "account": {"create", "show", "list", "suspend", "restore", "delete", "invite", "audit", "deletions"},
}
DEAD = {"list", "count", "show", "redrive", "drop", "export"}


@pytest.mark.parametrize("file", sorted([*RUNBOOKS.glob("*.md"), ROOT / "docs" / "operate" / "alerts.md", ROOT / "docs" / "operate" / "monitoring.md"]), ids=lambda file: file.stem)
def test_the_commands_of_ours_that_are_named_exist(file) -> None:
    exist = commands()
    for line in re.findall(r"(?:^[ \t]*|`|\| )orrery ([a-z][^`\n#|]*)", file.read_text(), flags=re.MULTILINE):
        words = line.split()
        assert words[0] in exist, f"orrery {line}"
        plain = [word for word in words[1:] if not word.startswith("-")]
        if words[0] in BELOW:
            assert plain and plain[0] in BELOW[words[0]], f"orrery {line}"
        if words[:2] == ["queues", "dead"]:
            assert plain[1] in DEAD, f"orrery {line}"
        for option in (word for word in words if word.startswith("--")):
            assert option in exist[words[0]] | {"--config", "--json"}, f"orrery {line}: no {option}"


def test_links_of_the_runbooks_lead_somewhere() -> None:
    for file in [*RUNBOOKS.glob("*.md"), ROOT / "docs" / "operate" / "alerts.md", ROOT / "docs" / "operate" / "monitoring.md"]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", re.sub(r"`[^`]*`", "", file.read_text())):
            assert target.startswith("http") or (file.parent / target).exists(), f"{file.name}: {target}"


def test_the_rules_are_linked_to_runbooks_of_this_repository() -> None:
    rules = yaml.safe_load((OBSERVABILITY / "prometheus" / "rules" / "alerts.yml").read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        link = rule["annotations"]["runbook_url"]
        assert (ROOT / link.split("/blob/main/", 1)[1]).exists(), link


def test_the_commands_told_to_the_test_are_those_of_the_binary() -> None:
    """The lists above, against the sources."""
    folder = ROOT / "services" / "orrery" / "src"
    def variants(file: str, enum: str) -> set[str]:
        body = re.search(rf"enum {enum} \{{\n(.*?)\n\}}", (folder / file).read_text(), flags=re.DOTALL)[1]
        return {re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower() for name in re.findall(r"^    ([A-Z]\w*)", body, flags=re.MULTILINE)}
    assert variants("queues/dead.rs", "Command") == DEAD
    assert variants("queues/mod.rs", "Command") == BELOW["queues"]
    assert variants("events.rs", "Events") == BELOW["events"]
    assert BELOW["account"] <= variants("account.rs", "Account")
    assert variants("mail.rs", "Mail") == BELOW["mail"]
