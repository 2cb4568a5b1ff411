"""Permits that lie in a run's folder: whose, for what, from when to when, and for how much."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protocols.envelope import SealingKey
from protocols.signing import SigningKey
from securefl import consortium as members
from securefl.audit.deployment import examine
from securefl.domain.cards import Card, sign_card
from securefl.permit import EndorsedPermit, Permit, Revocation, SignedPermit, SignedRevocation
from securefl.roles.terms import Terms
from securefl.run_folder import RunFolder
from securefl.study import Study
from tests.securefl.audit.conftest import failing, lines

DAY = 24 * 3600


@pytest.fixture
def permitted(finished: RunFolder) -> Callable[..., SigningKey]:
    """Puts a permit for a hospital into the folder; gives the steward's key."""
    terms = Terms.of(study := Study.load(finished.path / "study"), finished.consortium(study))

    def permitted(hospital: str, study: bytes = terms.study, revoked: bytes | None = None) -> SigningKey:
        key, now = SigningKey.generate(), int(time.time())
        permit = Permit(
            number=bytes(16), study=study, proposal=bytes(32), hospital=hospital, dataset="records", purpose="",
            runs=1, epsilon="", delta="", unit="", not_before=now - DAY, expires=now + DAY, steward="s", researcher="r",
            reason="",
        )  # fmt: skip
        folder = finished.path / "permits" / hospital
        SignedPermit.of(permit, key).save(folder)
        if revoked is not None:
            SignedRevocation.of(Revocation(permit=revoked, time=now + 60, reason=""), key).save(folder)
        return key

    return permitted


def test_permits_of_all_hospitals(finished: RunFolder, permitted: Any) -> None:
    stewards = {h: permitted(h).public for h in ("b", "charite", "st-anna")}
    mark, says = lines(examine(finished.path, stewards=stewards))["approvals"]
    assert mark == "unchecked"
    assert re.fullmatch(
        r"3 permits are for this study; they hold from \S+ \S+ UTC to \S+ \S+ UTC; none lies here for va\.",
        says,
    )
    stewards["va"] = permitted("va").public
    assert lines(examine(finished.path, stewards=stewards))["approvals"][0] == "holds"
    assert lines(examine(finished.path))["approvals"][0] == "unchecked"
    stewards["va"] = permitted("va", revoked=bytes(16)).public
    assert "; revoked: va (20" in lines(examine(finished.path, stewards=stewards))["approvals"][1]


def test_permits_that_are_not_for_this(finished: RunFolder, permitted: Any) -> None:
    key = permitted("va", study=bytes(32))
    assert "is a permit for another study" in failing(finished.path)
    permitted("nowhere")
    shutil.rmtree(finished.path / "permits" / "va")
    assert "is no hospital of this study" in failing(finished.path)
    shutil.rmtree(finished.path / "permits" / "nowhere")
    permitted("va")
    assert "is not signed by the steward of va" in failing(finished.path, stewards={"va": key.public})
    permitted("va", revoked=b"x" * 16)
    assert "revokes another permit" in failing(finished.path)
    (finished.path / "permits" / "va" / "permit.cbor").write_bytes(b"x")
    assert "is damaged" in failing(finished.path)


@pytest.fixture
def endorsed(finished: RunFolder, permitted: Any) -> Callable[..., Path]:
    """Puts an endorsed permit where a run through a domain has it: by the hospital's key, or by another's."""
    consortium = finished.consortium(Study.load(finished.path / "study"))

    def endorsed(hospital: str, by: str | None = None, **changes: Any) -> Path:
        permitted(hospital)
        raw = finished.permits / hospital
        permit = SignedPermit.from_bytes((raw / "permit.cbor").read_bytes()).permit
        shutil.rmtree(raw)
        key = members.load_keys(finished.keys / (by or hospital), consortium.member(by or hospital)).signing
        signed = SignedPermit.of(permit.model_copy(update=changes), SigningKey.generate())
        path = finished.permits / f"{hospital}.cbor"
        path.write_bytes(EndorsedPermit.of(signed, key).to_bytes())
        return path

    return endorsed


def test_permits_that_do_not_hold_when_the_run_began(finished: RunFolder, endorsed: Any) -> None:
    for hospital in ("b", "charite", "st-anna", "va"):
        endorsed(hospital)
    assert lines(examine(finished.path))["approvals"][0] == "holds"
    now = int(time.time())
    for window in ({"not_before": 0, "expires": now - DAY}, {"not_before": now + 60}):
        endorsed("va", **window)
        mark, says = lines(examine(finished.path))["approvals"]
        assert mark == "unchecked"
        assert says.endswith(", when none held for va.")
    endorsed("va", expires=now - DAY + 60)
    endorsed("b", not_before=now - DAY + 60)
    assert "at no time do all hold" in lines(examine(finished.path))["approvals"][1]
    # Without a time in run.json the window is told, and no more.
    path = finished.path / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "started": "long ago"}))
    endorsed("b")
    endorsed("va", expires=now - DAY + 60)
    mark, says = lines(examine(finished.path))["approvals"]
    assert (mark, "they hold from" in says) == ("holds", True)


def test_a_permit_that_was_revoked_before_the_run_began(finished: RunFolder, permitted: Any) -> None:
    stewards = {h: permitted(h).public for h in ("b", "charite", "st-anna", "va")}
    folder, key = finished.permits / "va", permitted("va")
    revocation = Revocation(permit=bytes(16), time=int(time.time()) - DAY, reason="")
    SignedRevocation.of(revocation, key).save(folder)
    mark, says = lines(examine(finished.path, stewards=stewards | {"va": key.public}))["approvals"]
    assert (mark, "when none held for va" in says) == ("unchecked", True)


def test_more_than_a_permit_allows(private: RunFolder) -> None:
    consortium = private.consortium(study := Study.load(private.path / "study"))
    terms = Terms.of(study, consortium)
    now = int(time.time())

    def allow(epsilon: str) -> None:
        permit = Permit(
            number=bytes(16), study=terms.study, proposal=bytes(32), hospital="va", dataset="records", purpose="",
            runs=1, epsilon=epsilon, delta="0.00001", unit="patient", not_before=now - DAY, expires=now + DAY,
            steward="s", researcher="r", reason="",
        )  # fmt: skip
        key = members.load_keys(private.keys / "va", consortium.member("va")).signing
        signed = SignedPermit.of(permit, SigningKey.generate())
        private.permits.mkdir(exist_ok=True)
        (private.permits / "va.cbor").write_bytes(EndorsedPermit.of(signed, key).to_bytes())

    allow("50")
    assert examine(private.path).broken is None
    allow("0.01")
    said = failing(private.path)
    assert said.startswith("approvals: va has spent epsilon ")
    assert said.endswith(" for a patient in this study; permits/va.cbor allows 0.01.")
    # Without the ledger nobody can tell.
    shutil.rmtree(private.privacy / "va")
    assert examine(private.path).broken is None


def test_permits_that_the_hospitals_pinned_keys_endorse_need_no_steward(
    finished: RunFolder, endorsed: Any
) -> None:
    for hospital in ("b", "charite", "st-anna", "va"):
        endorsed(hospital)
    mark, says = lines(examine(finished.path))["approvals"]
    assert (mark, says.split(";")[0]) == ("holds", "4 permits are for this study")
    endorsed("va", study=bytes(32))
    assert "permits/va.cbor is a permit for another study" in failing(finished.path)
    endorsed("va", epsilon="1", delta="1e-5", unit="patient")
    assert "the study has no differential privacy" in failing(finished.path)
    endorsed("va", by="b")
    assert "permits/va.cbor is not endorsed by the pinned key of va" in failing(finished.path)
    endorsed("va").write_bytes(b"x")
    assert "permits/va.cbor is damaged" in failing(finished.path)
    endorsed("va").unlink()
    assert lines(examine(finished.path))["approvals"][0] == "unchecked"


def test_a_steward_is_known_by_its_card(
    finished: RunFolder, permitted: Any, call: Any, tmp_path: Path
) -> None:
    card = tmp_path / "card.cbor"
    for hospital in ("b", "charite", "st-anna", "va"):
        permitted(hospital)
    key = permitted("va")
    for signing, code in ((key, 0), (SigningKey.generate(), 1)):
        sealing = SealingKey.generate().public
        signed = sign_card(Card(email="va@h.example", signing=signing.public, sealing=sealing), signing)
        card.write_bytes(signed)
        ended, out, _ = call(finished.path, "--steward", f"va={card}")
        assert ended == code
        assert ("is not signed by the steward of va" in " ".join(out.split())) == (code == 1)
    card.write_bytes(b"no card")
    assert "is not a card" in call(finished.path, "--steward", f"va={card}")[2]
    assert "cannot be read" in call(finished.path, "--steward", f"va={tmp_path / 'none.cbor'}")[2]
