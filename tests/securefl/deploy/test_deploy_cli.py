"""The commands: what they print, and one sentence for what they refuse."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from securefl.cli.deploy import app
from securefl.deploy.settings import PUBLIC
from securefl.errors import ConsortiumError, SecureFLError
from tests.securefl.deploy.conftest import DEALER, HOSPITALS, MESH, PARTIES, SUPERLINK

ADDRESSES = [part for name, address in MESH.items() for part in ("--address", f"{name}={address}")]


def call(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_init(tmp_path):
    members = [part for name in HOSPITALS for part in ("--hospital", name)]
    members += [part for name in PARTIES for part in ("--party", name)]
    out = tmp_path / "out"
    printed = call("init", "--out", out, *members, "--dealer", DEALER, "--superlink", SUPERLINK, *ADDRESSES)
    assert "3 hospitals and 2 parties and for the dealer" in printed
    assert "you have held every private key" in printed
    with pytest.raises(ConsortiumError, match="not empty"):
        call("init", "--out", out, *members, "--dealer", DEALER, "--superlink", SUPERLINK, *ADDRESSES)


def test_the_way_of_each_its_own(tmp_path):
    identity = "00112233445566ff"
    fingerprints = {}
    for name in [*HOSPITALS, *PARTIES, DEALER]:
        role = "hospital" if name in HOSPITALS else "dealer" if name == DEALER else "party"
        rank = [*PARTIES, DEALER].index(name) if role != "hospital" else 0
        printed = call(
            "member", name, "--role", role, "--rank", rank, "--consortium", identity, "--out", tmp_path / name
        )
        fingerprints[name] = printed.rpartition(": ")[2].strip()
    cards = [tmp_path / name / "card.toml" for name in fingerprints]
    printed = call("gather", *cards, "--out", tmp_path / "all", "--superlink", SUPERLINK, *ADDRESSES)
    for name, fingerprint in fingerprints.items():
        assert fingerprint in printed
        assert fingerprint in call("join", tmp_path / name, tmp_path / "all" / PUBLIC)


def test_study_renew_and_health(made, study):
    printed = call("study", made / "oslo", study)
    assert (
        printed.rpartition(": ")[2].strip() == call("study", made / "uni", study).rpartition(": ")[2].strip()
    )
    assert "start it again" in call("renew", made / "authority", made / "coordinator")
    assert "before the next renewal" in call(
        "renew", made / "authority", made / "coordinator", "--new-authority"
    )
    assert "at once" in call("renew", made / "authority", made / "coordinator", "--drop-old")
    with pytest.raises(SecureFLError, match="SuperNode of oslo"):
        call("health", made / "oslo")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["member", "oslo", "--role", "king", "--consortium", "0" * 16, "--out", "x"], "is no role"),
        (
            ["member", "oslo", "--role", "hospital", "--rank", "1", "--consortium", "0" * 16, "--out", "x"],
            "no rank",
        ),
        (["gather", "c", "--out", "x", "--superlink", SUPERLINK, "--address", "uni"], "write NAME=host:port"),
        (
            [
                "gather",
                "c",
                "--out",
                "x",
                "--superlink",
                SUPERLINK,
                "--address",
                "u=a:1",
                "--address",
                "u=b:1",
            ],
            "two addresses",
        ),
        (["join", "nowhere"], "There is no"),
        (["health", "nowhere"], "There is no"),
        (["renew", "nowhere", "nowhere"], "cannot be read"),
    ],
)
def test_refusals_are_one_sentence(tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConsortiumError, match=sentence):
        call(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_the_guide_names_commands_and_options_that_exist():
    text = (Path(__file__).resolve().parents[3] / "docs" / "deploy.md").read_text().replace("\\\n", " ")
    commands = typer.main.get_command(app).commands
    named = re.findall(r"securefl deploy ([a-z]+)((?: [^`\n|]*)?)", text)
    assert {name for name, _ in named} == set(commands)
    for name, arguments in named:
        known = {option for parameter in commands[name].params for option in parameter.opts}
        assert set(re.findall(r"(?<= )--[a-z-]+", arguments.partition("#")[0])) <= known, (name, arguments)


def test_help_imports_nothing_heavy():
    program = (
        "import sys; from securefl.cli import deploy; "
        "print([m for m in ('torch', 'numpy', 'flwr', 'jinja2', 'cryptography') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_health_imports_nothing_heavy(made):
    """It runs every half a minute beside each process."""
    program = (
        "import sys; from pathlib import Path; from securefl.deploy.plan import plan_folder; "
        f"plan_folder(Path({str(made / 'uni')!r}), with_study=False); import securefl.deploy.health; "
        "print([m for m in ('torch', 'numpy', 'flwr') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
