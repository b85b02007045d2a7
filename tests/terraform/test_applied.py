"""`terraform test`: an apply of each environment with mocked providers, by the real program. What AWS would refuse it does not know."""

from pathlib import Path

import pytest
from conftest import ENVIRONMENTS, HERE, run_cases

APPLIED = HERE / "applied"


def cases(name: str, *aliases: str) -> str:
    mocks = (APPLIED / "mocks.hcl").read_text()
    providers = "".join(f'mock_provider "aws" {{\n{f"  alias = {chr(34)}{alias}{chr(34)}" if alias else ""}\n{mocks}}}\n' for alias in aliases or ("",))
    return f'{providers}mock_provider "random" {{}}\n{(APPLIED / f"{name}.hcl").read_text()}'


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_environment_applies_with_mocked_providers(environment: str) -> None:
    text = cases("regions", "first", "second") if environment == "regions" else cases("environment")
    done = run_cases(Path("environments") / environment, text, "-var-file=example.tfvars")
    assert done.returncode == 0 and "Success! 1 passed, 0 failed." in done.stdout, done.stdout + done.stderr


def test_secrets_hold_addresses_of_tls_and_keys_that_fit_together() -> None:
    done = run_cases(Path("modules") / "secrets", cases("secrets"))
    assert done.returncode == 0 and "Success! 2 passed, 0 failed." in done.stdout, done.stdout + done.stderr


def test_a_wrong_expectation_fails() -> None:
    text = cases("secrets").replace("@database.example:5432", "@elsewhere.example:5432", 1)
    done = run_cases(Path("modules") / "secrets", text)
    assert done.returncode != 0 and "without TLS or elsewhere" in " ".join((done.stdout + done.stderr).split())
