"""The scanner over every environment: no finding but those that are answered here. Only in the full form."""

import json
import os
import re
import subprocess

import pytest
from conftest import ROOT, TERRAFORM

CHECKOV = ROOT / ".run" / "checkov" / "bin" / "checkov"

# Check, the resources in which it may be found (a pattern), and why that is as it should be. The scanner has no severities without an account at its
# maker's: every finding counts.
ANSWERED = {
    "CKV2_AWS_19": (r".*aws_eip\.nat.*", "the addresses are of NAT gateways"),
    "CKV2_AWS_31": (r".*aws_wafv2_web_acl\.this", "lines about requests hold people's addresses: none are kept (docs/security.md)"),
    "CKV_AWS_91": (r".*aws_lb\.this", "the same"),
    "CKV_AWS_18": (r".*aws_s3_bucket\.this", "the same; the bucket is reached by two services alone"),
    "CKV2_AWS_50": (r".*aws_elasticache_replication_group\.this", "development and staging have one node; production's two fail over (test_checklist)"),
    "CKV2_AWS_57": (r".*aws_secretsmanager_secret\.this.*", "a key that seals data must not change by itself: docs/operate.md, Rotating keys"),
    "CKV2_AWS_76": (r".*aws_lb\.this", "the rules are attached by a `dynamic` block that the scanner does not evaluate (test_checklist does)"),
    "CKV_AWS_192": (r".*aws_wafv2_web_acl\.this", "the same"),
    "CKV2_AWS_8": (r".*aws_rds_cluster\.this", "backups are the cluster's own: 14 days to any second, and a last snapshot"),
    "CKV_AWS_109": (r".*aws_iam_policy_document\.key", "the policy of a key is about that key: its resource is always *"),
    "CKV_AWS_111": (r".*aws_iam_policy_document\.key", "the same"),
    "CKV_AWS_356": (r".*aws_iam_policy_document\.key", "the same"),
    "CKV_AWS_144": (r".*aws_s3_bucket\.this", "with two regions pictures are replicated (module global); with one there is nowhere to"),
    "CKV_AWS_150": (r".*aws_lb\.this", "development may be destroyed"),
    "CKV_AWS_260": (r".*ingress_rule\.http.*", "port 80 answers with a redirect to HTTPS alone"),
    "CKV_AWS_273": (r".*aws_iam_user\.storage.*", "the binary signs with an access key of its own so far; access_keys = false removes the users"),
    "CKV_AWS_40": (r".*aws_iam_user_policy\.storage.*", "the same"),
    "CKV_AWS_338": (r".*aws_cloudwatch_log_group\.(flows|cluster\[\"(dataplane|host|performance)\"\])", "addresses are kept for 30 days and no longer, and so is what the nodes say"),
    "CKV_AWS_116": (r".*aws_lambda_function\.bridge", "it is fed by a queue, which keeps what failed in a queue of its own"),
    "CKV_AWS_272": (r".*aws_lambda_function\.bridge", "the package is made by who applies, and known by its hash"),
}

pytestmark = pytest.mark.skipif(os.environ.get("LAYOUT_FORM") != "full", reason="the scanner is part of the full form: ./dev test terraform full")


def report() -> dict:
    done = subprocess.run(
        [CHECKOV, "--framework", "terraform", "--directory", TERRAFORM, "--output", "json", "--compact", "--quiet", "--download-external-modules", "false"],
        capture_output=True, text=True, check=False, env={**os.environ, "LOG_LEVEL": "ERROR"},
    )
    return json.loads(done.stdout)


def answered(finding: dict) -> bool:
    pattern = ANSWERED.get(finding["check_id"], ("", ""))[0]
    return re.fullmatch(pattern, finding["resource"]) is not None


def test_no_finding() -> None:
    found = report()
    assert found["summary"]["parsing_errors"] == 0 and found["summary"]["passed"] > 200
    left = sorted({f"{each['check_id']} {each['check_name']}: {each['resource']}" for each in found["results"]["failed_checks"] if not answered(each)})
    # It does not find the same at each run: an answer that is not asked for is no fault.
    assert left == []
