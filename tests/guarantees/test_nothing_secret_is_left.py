"""Every byte that a whole run leaves is searched for its secrets: keys, seeds, coins, shares, updates.

The run is a real one in this process, with its report, with a hospital that is silent and a party that dies, and with
all logging switched on and written beside it. The control plants each kind of secret in a file of each kind.
"""

from __future__ import annotations

import base64
import gzip
import json
import logging
import warnings
from functools import partial
from pathlib import Path

import pytest

from protocols import contribution as contributions
from securefl import running
from securefl.audit.canaries import forms, search
from securefl.roles import party
from securefl.roles.pledges import Pledges
from tests.securefl.conftest import InOneProcess, Script

STUDY = """\
name = "Searched"
seed = 7
averaged_rounds = 1
[simulation]
baselines = []
exhibits = false
[consortium]
hospitals = ["b", "charite", "st-anna", "va"]
parties = 3
[committee]
collusion_bound = 1
minimum_parties = 2
[data]
source = "fed-heart"
standardise = "features"
[model]
kind = "logistic"
[training]
rounds = 3
learning_rate = 0.1
"""
HOSPITALS = ("b", "charite", "st-anna", "va")
SCRIPT = {"silent": {2: {"va"}}, "secretive": {2: {"b"}}, "gone": {3: "party-2"}}
REVEALED = ("coin of ",)
"""What is secret only until the hospitals' check of a sum has begun, and stands in the records of the checks then."""


@pytest.fixture(scope="module")
def searched_run(tmp_path_factory) -> tuple[Path, dict[str, bytes]]:
    """The folder of a run, its log included, and every secret that it ever had, by name."""
    root = tmp_path_factory.mktemp("searched")
    secrets: dict[str, bytes] = {}
    attempt, share, new_coin = party.Attempt, contributions.share, Pledges.new_coin

    def watched_attempt(*arguments):
        made = attempt(*arguments)
        secrets[f"round key {len(secrets)}"] = made.key.private_bytes()
        secrets[f"part of a coin {len(secrets)}"] = made.coin_part
        return made

    def watched_share(x, *arguments):
        made = share(x, *arguments)
        secrets.update({f"share {len(secrets)}-{i}": bytes(p[:-1]) for i, p in enumerate(made)})
        secrets[f"update {len(secrets)}"] = x.tobytes()
        return made

    def watched_coin(pledges, context):
        coin, commitment = new_coin(pledges, context)
        secrets[f"coin of {len(secrets)}"] = coin
        return coin, commitment

    (root / "source").mkdir()
    (root / "source" / "study.toml").write_text(STUDY)
    handler = logging.FileHandler(root / "log.txt")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(party, "Attempt", watched_attempt)
        patch.setattr(contributions, "share", watched_share)
        patch.setattr(Pledges, "new_coin", watched_coin)
        patch.setattr(running, "LocalEngine", partial(InOneProcess, Script(**SCRIPT)))
        patch.setattr("os.fsync", lambda _descriptor: None)
        logging.captureWarnings(True)
        patch.setattr(logging.getLogger(), "level", logging.DEBUG)
        logging.getLogger().addHandler(handler)
        try:
            running.run(root / "source", root / "run", progress=False)
        finally:
            logging.getLogger().removeHandler(handler)
            logging.captureWarnings(False)
            handler.close()
    for path in (root / "run" / "keys").rglob("*.key"):
        content = path.read_bytes()
        name = f"{path.parent.name}'s {path.name}"
        secrets[name] = content if b"BEGIN" in content else base64.b64decode(content)
    return root, secrets


def kinds(secrets):
    return {name.rstrip("0123456789-").strip() for name in secrets}


def test_no_secret_of_a_whole_run_is_in_any_byte_that_it_leaves(searched_run):
    root, secrets = searched_run
    assert kinds(secrets) >= {"round key", "part of a coin", "share", "update", "coin of", "b's signing.key"}
    assert len(secrets) > 100
    kept = {name: secret for name, secret in secrets.items() if not name.startswith(REVEALED)}
    searched = search(root, kept, skip=["run/keys"])
    # Round 2's sum was never checked, since b said nothing: each hospital still has its own update, and no other's.
    assert {f.file for f in searched.found} <= {f"run/homes/{h}/pledge-2" for h in HOSPITALS}
    assert all(f.secret.startswith("update") for f in searched.found)
    assert len(searched.found) <= len(HOSPITALS)
    assert searched.files > 30
    assert (root / "run" / "report.html").exists()
    assert (root / "run" / "model.safetensors").exists()


def test_control_coins_are_found_once_they_are_revealed(searched_run):
    root, secrets = searched_run
    coins = {name: secret for name, secret in secrets.items() if name.startswith(REVEALED)}
    found = search(root, coins, skip=["run/keys"]).found
    assert {f.file.rpartition("/")[2][:12] for f in found} >= {"verification"}


def test_control_private_keys_are_found_where_they_belong(searched_run):
    root, secrets = searched_run
    keys = {name: secret for name, secret in secrets.items() if name.endswith(".key")}
    found = {f.secret for f in search(root, keys).found}
    assert found >= set(keys)


PLANTED = [
    "report.html",
    "receipts/receipt-000001",
    "logs/party-1.log",
    "model.safetensors",
    "core.1234",
    "homes/b/x",
]


@pytest.mark.parametrize("file", PLANTED)
def test_control_a_planted_secret_is_found_in_every_form(searched_run, tmp_path, file):
    _, secrets = searched_run
    for kind in ("round key", "share", "update"):
        name, secret = next((n, s) for n, s in secrets.items() if n.startswith(kind))
        for form, content in forms(secret).items():
            path = tmp_path / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * 1001 + content + b"y" * 1001)
            assert {f.secret for f in search(tmp_path, {name: secret}).found} == {name}, form
        path.write_bytes(gzip.compress(json.dumps({"it": secret.hex()}).encode()))
        assert search(tmp_path, {name: secret}).found
