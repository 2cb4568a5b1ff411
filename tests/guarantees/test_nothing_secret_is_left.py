"""Every byte that a whole run leaves is searched for its secrets: keys, seeds, coins, shares, updates.

The run is a real one in this process, with its report, with a hospital that is silent and a party that dies, and with
all logging switched on and written beside it. The control plants each kind of secret in a file of each kind, in the
forms in which the standard library writes it; for numbers see ``tests/securefl/audit/test_images.py``.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import logging
import textwrap
import warnings
from functools import partial
from pathlib import Path

import pytest

from protocols import contribution as contributions
from protocols.canonical import decode
from protocols.ring import signed
from securefl import running
from securefl.audit.canaries import search
from securefl.audit.images import images
from securefl.roles import party
from securefl.roles.hospital import HospitalMachine
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
SIZE = 22
"""Coordinates of the model."""
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
    values_of = HospitalMachine._values

    def watched_attempt(*arguments):
        made = attempt(*arguments)
        secrets[f"round key {len(secrets)}"] = made.key.private_bytes()
        secrets[f"part of a coin {len(secrets)}"] = made.coin_part
        return made

    def watched_share(x, parties, holder, context):
        made = share(x, parties, holder, context)
        secrets.update({f"share {len(secrets)}-{i}": bytes(p[:-1]) for i, p in enumerate(made)})
        _, hospital = decode(context)
        secrets[f"update of {hospital} {len(secrets)}"] = x.tobytes()
        if x.size == SIZE:
            secrets.update(images(f"update of {hospital} {len(secrets)} in units", signed(x)))
        return made

    def watched_values(machine, round_):
        values = values_of(machine, round_)
        if round_ > 0:
            secrets.update(images(f"update of {machine.name} {len(secrets)} before its encoding", values))
            grid = machine._terms.update.decode_sum(signed(machine._terms.update.encode(values)))
            secrets.update(images(f"update of {machine.name} {len(secrets)} on the grid", grid))
        return values

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
        patch.setattr(HospitalMachine, "_values", watched_values)
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


def own(hospital):
    """Whether what was found is a hospital's own update, where it keeps it until the check of its sum."""
    return lambda found: (
        found.secret.startswith(f"update of {hospital} ") and found.file == f"run/homes/{hospital}/pledge-2"
    )


def test_no_secret_of_a_whole_run_is_in_any_byte_that_it_leaves(searched_run):
    root, secrets = searched_run
    assert kinds(secrets) >= {
        "round key",
        "part of a coin",
        "share",
        "update of b",
        "coin of",
        "b's signing.key",
    }
    assert len(secrets) > 100
    for what in (
        "in units, big-endian int64",
        "before its encoding, little-endian float64",
        "on the grid, number 1",
    ):
        # Of four hospitals in three rounds, one of which lacks one.
        assert sum(name.endswith(what) for name in secrets) == len(HOSPITALS) * 3 - 1, what
    kept = {name: secret for name, secret in secrets.items() if not name.startswith(REVEALED)}
    searched = search(root, kept, skip=["run/keys"])
    # Round 2's sum was never checked, since b said nothing: each hospital in it still has its own update.
    for hospital in HOSPITALS:
        assert any(map(own(hospital), searched.found)) == (hospital != "va"), hospital
    assert [found for found in searched.found if not any(own(h)(found) for h in HOSPITALS)] == []
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


WAYS = {
    "as it stands": lambda secret: secret,
    "hexadecimal": lambda secret: binascii.b2a_hex(secret),
    "hexadecimal in lines": lambda secret: "\n".join(textwrap.wrap(secret.hex(), 60)).encode(),
    "base64": lambda secret: base64.standard_b64encode(b"before" + secret + b"after"),
    "base64 in lines": lambda secret: base64.encodebytes(b"x" + secret),
    "base64 in lines in JSON": lambda secret: json.dumps(
        {"it": base64.encodebytes(secret).decode()}
    ).encode(),
    "base64 for addresses": lambda secret: base64.urlsafe_b64encode(secret),
    "as Python shows bytes": lambda secret: str({"it": secret}).encode(),
    "compressed": lambda secret: gzip.compress(json.dumps({"it": secret.hex()}).encode()),
}
"""How a program may write bytes."""


@pytest.mark.parametrize("way", WAYS)
def test_control_a_planted_secret_is_found_in_every_form(searched_run, tmp_path, way):
    _, secrets = searched_run
    for kind in ("round key", "share", "update"):
        name, secret = next((n, s) for n, s in secrets.items() if n.startswith(kind))
        content = WAYS[way](secret)
        for file in PLANTED:
            path = tmp_path / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if way == "compressed" else b"x" * 1001 + content + b"y" * 1001)
            assert {f.secret for f in search(tmp_path, {name: secret}).found} == {name}, file
            path.unlink()
