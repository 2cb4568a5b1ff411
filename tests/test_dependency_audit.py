"""``.ci/run`` on a small checkout: published vulnerabilities fail it, and that nobody can be asked does not.

pip-audit and its service are on the network: here a script prints what they were seen to print.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOCK = f"requirements/lock-{sys.version_info.major}.{sys.version_info.minor}.txt"

# Stands in for .venv/bin/python: makes the "environment" that the audit throws away.
PYTHON = f"""\
#!/usr/bin/env bash
if [ "$1" = -c ]; then exec {sys.executable} "$@"; fi
mkdir -p "$3/bin"
cp pip pip-audit "$3/bin"
"""
PIP_AUDIT = """\
#!/usr/bin/env bash
case "$*" in *control.txt*) about=control ;; *) about=lock ;; esac
echo "$*" >"$about.arguments"
[ ! -f "$about.err" ] || cat "$about.err" >&2
[ ! -f "$about.out" ] || cat "$about.out"
exit "$(cat "$about.status")"
"""

FOUND = """\
Name   Version ID             Fix Versions
------ ------- -------------- ------------
jinja2 2.10    PYSEC-2019-217 2.10.1
"""
SKIPPED = """\
Name   Skip Reason
------ --------------------------------------------------------------------
jinja2 Dependency not found on PyPI and could not be audited: jinja2 (2.10)
"""
AWAY = "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='api.osv.dev', port=443): Max retries exceeded\n"
NO_FEED = "ERROR:pip_audit._cli:Could not connect to PyPI's vulnerability feed\n"
NO_HASH = "ERROR:pip_audit._cli:requirement jinja2==2.10 does not contain a hash\n"
NOT_AUDITED = "The dependencies were not audited: "


class Checkout:
    """A checkout with the real scripts, whose tests pass."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / ".ci", folder / ".ci")
        self.write("Makefile", "test:\n\t@echo tested\n")
        self.write(LOCK, "jinja2==2.10\n")
        self.script(".venv/bin/python", PYTHON)
        self.script("pip", "#!/usr/bin/env bash\n")
        self.script("pip-audit", PIP_AUDIT)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def script(self, name: str, text: str) -> None:
        self.write(name, text).chmod(0o755)

    def answer(self, about: str, status: int, out: str = "", err: str = "") -> None:
        for name, text in (("status", str(status)), ("out", out), ("err", err)):
            self.write(f"{about}.{name}", text)

    def run(self) -> tuple[int, str, str]:
        # Without what the make that may run this test has set.
        env = {name: value for name, value in os.environ.items() if "MAKE" not in name}
        done = subprocess.run(
            [self.folder / ".ci" / "run"], capture_output=True, text=True, check=False, env=env
        )
        assert done.stdout.startswith("tested\n")
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = Checkout(tmp_path)
    made.answer("control", 1, FOUND)
    made.answer("lock", 0)
    return made


def test_what_nobody_knows_a_vulnerability_of_passes(checkout: Checkout) -> None:
    code, out, _ = checkout.run()
    assert (code, "No published vulnerability of the dependencies is known" in out) == (0, True)


def test_a_published_vulnerability_fails_the_run_and_is_shown(checkout: Checkout) -> None:
    checkout.answer("lock", 1, FOUND)
    code, out, err = checkout.run()
    assert (code, err) == (1, f"error: dependencies in {LOCK} have published vulnerabilities.\n")
    assert "PYSEC-2019-217" in out


def test_no_index_to_install_from_passes_and_is_told(checkout: Checkout) -> None:
    checkout.script("pip", "#!/usr/bin/env bash\necho 'ERROR: No matching distribution' >&2\nexit 1\n")
    code, out, _ = checkout.run()
    assert (code, f"{NOT_AUDITED}pip-audit cannot be installed here (ERROR: No matching" in out) == (0, True)


@pytest.mark.parametrize("about", ["control", "lock"])
@pytest.mark.parametrize("said", [AWAY, NO_FEED])
def test_a_service_that_cannot_be_reached_passes_and_is_told(
    checkout: Checkout, about: str, said: str
) -> None:
    checkout.answer(about, 1, err=said)
    code, out, _ = checkout.run()
    assert (code, f"{NOT_AUDITED}the vulnerability service did not answer ({said[:30]}" in out) == (0, True)


def test_a_service_that_is_too_slow_passes_and_is_told(checkout: Checkout) -> None:
    checkout.answer("lock", 124)
    code, out, _ = checkout.run()
    assert (code, f"{NOT_AUDITED}the vulnerability service did not answer (not within 60 s" in out) == (
        0,
        True,
    )


def test_an_index_without_vulnerabilities_passes_and_is_told(checkout: Checkout) -> None:
    checkout.answer("control", 0, SKIPPED)
    code, out, _ = checkout.run()
    assert (code, f"{NOT_AUDITED}the service knows no vulnerability of jinja2 2.10" in out) == (0, True)


@pytest.mark.parametrize("about", ["control", "lock"])
def test_a_failure_of_another_kind_fails_the_run(checkout: Checkout, about: str) -> None:
    checkout.answer(about, 1, err=NO_HASH)
    code, _, err = checkout.run()
    assert (code, "does not contain a hash" in err, err.startswith("error: pip-audit failed at ")) == (
        1,
        True,
        True,
    )


def accept(checkout: Checkout, *lines: str) -> None:
    checkout.write(".ci/accepted-vulnerabilities", "\n".join(["# a comment", "", *lines]))


def test_what_is_accepted_until_today_or_later_is_not_looked_for_and_is_told(checkout: Checkout) -> None:
    """The control is audited without the list."""
    accept(
        checkout,
        f"PYSEC-1 {datetime.now(UTC):%Y-%m-%d} no template here is a stranger's",
        "PYSEC-2 9999-12-31 x",
    )
    code, out, _ = checkout.run()
    assert code == 0
    assert "is accepted until 9999-12-31: x" in out
    assert (
        (checkout.folder / "lock.arguments")
        .read_text()
        .endswith("--ignore-vuln PYSEC-1 --ignore-vuln PYSEC-2\n")
    )
    assert "--ignore-vuln" not in (checkout.folder / "control.arguments").read_text()


def test_what_was_accepted_until_an_earlier_day_is_looked_for_again(checkout: Checkout) -> None:
    accept(checkout, "PYSEC-1 2026-01-31 x")
    _, out, _ = checkout.run()
    assert "PYSEC-1 was accepted until 2026-01-31, and no longer is." in out
    assert "--ignore-vuln" not in (checkout.folder / "lock.arguments").read_text()


@pytest.mark.parametrize("line", ["PYSEC-1", "PYSEC-1 2026-01-31", "PYSEC-1 soon x"])
def test_nothing_is_accepted_without_a_last_day_and_a_reason(checkout: Checkout, line: str) -> None:
    accept(checkout, line)
    code, _, err = checkout.run()
    assert (code, err) == (
        1,
        "error: .ci/accepted-vulnerabilities: PYSEC-1 needs a date, as 2026-01-31, and a reason.\n",
    )
