"""The scanner over every overlay and the chart: no finding but those that are answered here. Only in the full form."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from conftest import OVERLAYS, ROOT, text_of, KUBERNETES
import test_chart
import yaml

CHECKOV = ROOT / ".run" / "checkov" / "bin" / "checkov"

# Check, the objects in which it may be found (a pattern of kind.namespace.name), and why that is as it should be. The scanner has no severities
# without an account at its maker's: every finding counts.
ANSWERED = {
    "CKV_K8S_43": (".*", "digests of images are the installation's to set: `images` of an overlay, image.digest of the chart (docs/kubernetes.md)"),
    "CKV_K8S_15": (".*", "IfNotPresent: tags name one version and are never moved; with Always a start would depend on the registry"),
    "CKV_K8S_35": (
        r"StatefulSet\..*\.(rabbitmq|postgres|influxdb|telegraf|s3)|Deployment\..*\.(grafana|postgres-exporter|spa-frontend-.*|spa-backend-.*|forward-proxy|reverse-proxy-.*|auth-server|autha|spinoza|tunnel|gateway-.*)|Job\..*\.spa-database-.*",
        "images of others take their first password, and Telegraf its token, from a variable alone, psql its own from a variable or a file of a form that no secret has; ours takes the id of an access key (not its secret) so, and Redis' address, which may be left out",
    ),
}

pytestmark = pytest.mark.skipif(os.environ.get("LAYOUT_FORM") != "full", reason="the scanner is part of the full form: ./dev test kubernetes full")


def findings(text: str, folder: Path) -> list[str]:
    file = folder / "rendered.yaml"
    file.write_text(text)
    done = subprocess.run([CHECKOV, "--framework", "kubernetes", "--file", file, "--output", "json", "--compact", "--quiet"], capture_output=True, text=True, check=False, env={**os.environ, "LOG_LEVEL": "ERROR"})
    report = json.loads(done.stdout)
    assert report["summary"]["parsing_errors"] == 0 and report["summary"]["passed"] > 500
    found = []
    for each in report["results"]["failed_checks"]:
        answer = ANSWERED.get(each["check_id"])
        if not answer or not re.fullmatch(answer[0], each["resource"]):
            found.append(f"{each['check_id']} {each['check_name']}: {each['resource']}")
    return found


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_finding_in(name: str, tmp_path: Path) -> None:
    assert findings(text_of(KUBERNETES / "overlays" / name), tmp_path) == []


def test_no_finding_in_the_chart(tmp_path: Path) -> None:
    assert findings(yaml.safe_dump_all(test_chart.helm(*test_chart.ALL).objects), tmp_path) == []


def test_a_finding_is_found(tmp_path: Path) -> None:
    text = text_of(KUBERNETES / "overlays" / "production").replace("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", 1)
    assert any("CKV_K8S_22" in line for line in findings(text, tmp_path))
