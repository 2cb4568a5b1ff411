"""A second client, written from the document alone, takes a hospital's place in a real study.

Two real hospitals and the shipped committee do not notice: the opened sums are exact, the hospitals' check of each sum
is complete, and all end with one model.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import sys
import tomllib
from base64 import b64decode
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocols.canonical import Record
from protocols.errors import EncodingError
from protocols.mesh import in_process_meshes
from securefl.errors import EngineError
from securefl.study import Study
from tests.protocols import independent_client, independent_receipts
from tests.protocols.independent_client import Client, binding, encode, pair_element, seal, share
from tests.protocols.independent_receipts import (
    P61,
    Chain,
    Refused,
    cbor,
    commit,
    digest,
    inner_product,
    read,
    signed,
    stream,
)
from tests.protocols.test_vectors import cases, hpke_open
from tests.protocols.vector_arithmetic import encoding_of
from tests.protocols.vector_world import FOLDER
from tests.securefl.roles.conftest import (
    SIZE,
    TRAINABLE,
    LinearTrainer,
    Stage,
    averaged,
    initial_model,
    make_cast,
)

PLACE = "va"
ALLOWED = {"blake3", "cbor2", "cryptography", "numpy"}


def facts(cast):
    """What section 2 of the document lists, of a stage's study."""
    terms, server = cast.terms, cast.study.settings.server
    bound = cast.study.settings.aggregation.bound
    count = len(terms.hospitals)
    return SimpleNamespace(
        study=terms.study,
        hospitals={name: (terms.hospitals[name], terms.sealing[name]) for name in terms.hospitals},
        parties=dict(terms.parties),
        minimum=terms.minimum,
        minimum_parties=terms.minimum_parties,
        rounds=terms.rounds,
        encodings={
            "statistics": fineness(64, 2.0**40, count),
            "update": fineness(terms.update.width, bound, count, terms.norm_bound),
        },
        learning_rate=server.learning_rate,
        momentum=server.momentum,
        trainable=TRAINABLE,
    )


def fineness(width, bound, hospitals, norm=None):
    """Section 2: width, bits and limit."""
    limit = (2 ** (width - 1) - 1) // (hospitals * (8 if width == 64 else 1))
    least = Fraction(bound if norm is None else min(bound, norm))
    bits = max(f for f in range(-20, 63) if math.ceil(least * Fraction(2) ** f) <= limit)
    largest = 4096 * 2 ** min(width - 4, 27) // 19388
    return width, bits if norm is None else min(bits, math.floor(math.log2(largest / 2 / norm))), limit


class Guest(Client):
    """The second client in a hospital's place, with that hospital's numbers; it remembers what it encoded."""

    def __init__(self, cast, name):
        self.trainer, keys = LinearTrainer(name), cast.keys[name]
        signing, sealing = keys.signing.private_bytes(), keys.sealing.private_bytes()
        super().__init__(
            facts(cast), name, signing, sealing, initial_model(), self.trainer.statistics, self.trained_by
        )

    def trained_by(self, model, opened, round_):
        self.trainer.use_statistics(opened)
        return self.trainer.update(model, round_)


def staged(cast, folder, guest=Guest, **options):
    stage = Stage(cast, folder, **options)
    stage.hosts[PLACE] = guest(cast, PLACE)
    return stage


@pytest.fixture(autouse=True)
def _no_sync(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _descriptor: None)


def check_study(stage, cast):
    """The model is the oracle's, every sum was checked by all, everybody is at the same place."""
    everyone, client, terms = set(cast.terms.hospitals), stage.hosts[PLACE], cast.terms
    bits = facts(cast).encodings["update"][1]
    rounds = [everyone] * terms.rounds
    assert np.array_equal(stage.model, averaged(list(terms.hospitals), rounds, bits, 0.75, 0.5))
    while moves := stage.moves():
        moves[0]()
    assert np.array_equal(client.x, stage.model)
    assert client.model() == stage.coordinator.replica.state.digest()
    assert (client.round, client.previous) == (terms.rounds + 1, stage.outcomes()[-1].outcome.digest())
    assert [done.settled.signed.outcome.included for done in stage.done] == [sorted(everyone)] * (
        terms.rounds + 1
    )
    assert [verified.missing for verified in stage.verified] == [()] * (terms.rounds + 1)
    assert not client.wrong


def test_it_takes_a_hospitals_place_beside_the_shipped_committee(tmp_path):
    cast = make_cast(tmp_path, 3, 3, 2, 32, None, None)
    meshes = in_process_meshes(3)
    stage = staged(cast, tmp_path / "stage", meshes=meshes).run()
    check_study(stage, cast)
    for mesh in meshes:
        mesh.close()


@pytest.mark.parametrize(("parties", "width", "norm"), [(2, 16, None), (4, 64, None), (3, 32, 8.0)])
def test_its_shares_are_right_in_every_ring(tmp_path, parties, width, norm):
    cast = make_cast(tmp_path, 3, parties, 2, width, norm, None)
    check_study(staged(cast, tmp_path / "stage").run(), cast)


def test_the_order_of_the_mail_makes_no_difference(tmp_path):
    cast = make_cast(tmp_path, 3, 3, 2, 32, None, None)
    for seed in range(2):
        check_study(staged(cast, tmp_path / f"stage-{seed}", seed=seed).run(), cast)


def test_the_opened_sum_is_that_of_the_encoded_vectors_to_the_last_unit(tmp_path):
    cast = make_cast(tmp_path, 3, 3, 1, 32, None, None)
    stage = staged(cast, tmp_path / "stage").run()
    bits = facts(cast).encodings["update"][1]
    total = [0] * SIZE
    for name in cast.terms.hospitals:
        trainer = LinearTrainer(name)
        trainer.use_statistics(stage.coordinator.replica.statistics)
        integers = [round(Fraction(float(v)) * 2**bits) for v in trainer.update(initial_model(), 1)]
        total = [a + b for a, b in zip(total, integers, strict=True)]
    assert np.frombuffer(stage.done[1].settled.total, "<i4").tolist() == total


def test_a_client_with_one_wrong_byte_in_its_masks_is_found_out(tmp_path, monkeypatch):
    """The control: were the sum not sensitive to the client's masks, the tests above would show nothing."""
    cast = make_cast(tmp_path, 3, 3, 1, 32, None, None)

    def share(x, seeds, holder, bound):
        # Updates only: wrong statistics end a study before anybody checks their sum.
        return independent_share(x, seeds, holder, bound + b"\0" * (x.itemsize == 4))

    independent_share = independent_client.share
    monkeypatch.setattr(independent_client, "share", share)
    with pytest.raises(EngineError, match=r"wrong sum could pass|not that of the hospitals"):
        staged(cast, tmp_path / "stage").run()


def test_it_checks_the_receipts_of_a_real_study(tmp_path):
    cast = make_cast(tmp_path, 3, 3, 2, 32, None, None)
    stage = staged(cast, tmp_path / "stage").run()
    store, chain, digests = stage.store("coordinator"), Chain(facts(cast), initial_model()), []
    for number in range(3):
        _, receipt = read(store[f"receipt-{number:06d}"])
        total, (_, check) = store[f"sum-{number:06d}"], read(store[f"verification-{number:06d}"])
        outcome = receipt["outcome"]
        chain.check_outcome(outcome, receipt["signatures"], total)
        assert chain.sum_is_right(outcome, total, check["coins"], check["answers"])
        digests.append(digest("verification", check))
        chain.follow(outcome, total)
    _, end = read(store["closing"])
    chain.check_closing(end["closing"], end["signatures"], digests)
    assert np.array_equal(chain.x, stage.model)
    # The control: one of them less.
    with pytest.raises(Refused, match="other-chain"):
        chain.check_closing(end["closing"], end["signatures"], digests[:-1])


def test_the_study_has_the_digest_that_the_document_says(tmp_path):
    cast = make_cast(
        tmp_path, 3, 3, 2, 32, 8.0, None
    )  # with a dealer, which has a certificate as parties have
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "net.py").write_text("LAYERS = 3\n")
    names = ("study.toml", "consortium.toml", "model/net.py")
    found = {name: hashlib.sha256((tmp_path / name).read_bytes()).digest() for name in names}
    pinned = tomllib.loads((tmp_path / "consortium.toml").read_text())
    members = [{"certificate": None, **member} for member in pinned["members"]]
    consortium = digest("consortium", {"id": pinned["id"], "epoch": pinned["epoch"], "members": members})
    named = digest("study", {"files": found, "consortium": consortium, "securefl": version("securefl")})
    assert named == Study.load(tmp_path).digest(cast.consortium.digest())
    for name, (signing, sealing) in facts(cast).hospitals.items():
        card = next(member for member in members if member["name"] == name)
        assert (b64decode(card["signing"]), b64decode(card["sealing"])) == (signing, sealing)
        private = b64decode((tmp_path / "keys" / name / "signing.key").read_bytes())
        assert Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw() == signing
        scalar = b64decode((tmp_path / "keys" / name / "sealing.key").read_bytes())[64:]
        assert X25519PrivateKey.from_private_bytes(scalar).public_key().public_bytes_raw() == sealing[1184:]


def test_every_file_says_its_version():
    for path in FOLDER.iterdir():
        assert f"v{json.loads(path.read_text())['version']}" == FOLDER.name, path.name


# -- the arithmetic, by the known answers ------------------------------------------------------------------------------


def each(file, without=()):
    found = [(c.values[0], c.id.startswith("bad_")) for c in cases(file) if c.id not in without]
    return pytest.mark.parametrize(("case", "bad"), [pytest.param(*f, id=f[0]["name"]) for f in found])


def hexed(case, *names):
    return [bytes.fromhex(case[name]) for name in names]


@each("encoding")
def test_encoding(case, bad):
    (x,) = hexed(case, "x")
    width, bits, limit = (
        case["width"],
        case["fraction_bits"],
        (2 ** (case["width"] - 1) - 1) // case["summands"],
    )
    if bad:
        with pytest.raises(Refused):
            encode(np.frombuffer(x, "<f8"), width, bits, limit)
        return
    assert encode(np.frombuffer(x, "<f8"), width, bits, limit).tobytes().hex() == case["encoded"]
    decoded = signed(bytes.fromhex(case["encoded"]), width) * 2.0**-bits
    assert decoded.tobytes().hex() == case["decoded"]


@each("fineness")
def test_fineness(case, bad):
    given = case["width"], case["bound"], case["hospitals"], case["norm_bound"]
    if bad:
        with pytest.raises(EncodingError):
            encoding_of(*given)
        with pytest.raises(ValueError, match="empty"):
            fineness(*given)
        return
    ours = encoding_of(*given)
    assert (ours.width, ours.fraction_bits, ours.limit) == fineness(*given)
    assert fineness(*given) == (case["width"], case["bits"], int(case["limit"]))


# A client draws its seeds: none has another length.
@each("expansion", without=("bad_seed_short", "bad_seed_long", "bad_seed_empty"))
def test_expansion(case, bad):
    seed, context, first = hexed(case, "seed", "context", "first")
    drawn = stream(seed, case["label"], context, case["size"] * case["width"] // 8)
    assert drawn.startswith(first) != bad
    assert bad or hashlib.sha256(drawn).hexdigest() == case["sha256"]


@each("sharing")
def test_sharing(case, bad):
    width, size = case["width"], case["size"] * case["width"] // 8
    x, bound = hexed(case, "x", "context")
    plaintexts, total = [bytes.fromhex(p) for p in case["plaintexts"]], 0
    for j, plaintext in enumerate(plaintexts):
        form = (plaintext[-1:], len(plaintext) - 1)
        if form not in ((b"\0", 32), (b"\1", size)):
            assert bad
            return
        mask = (
            stream(plaintext[:-1], "share", j.to_bytes(2, "big") + bound, size)
            if form[0] == b"\0"
            else plaintext[:-1]
        )
        total = total + np.frombuffer(mask, f"<u{width // 8}")
    assert (total.tobytes() == x) != bad
    if not bad:
        seeds = [plaintext[:-1] for plaintext in plaintexts]
        made = share(np.frombuffer(x, f"<u{width // 8}"), seeds, case["vector_holder"], bound)
        assert made == plaintexts


@each("envelope")
def test_envelope(case, bad):
    private, envelope = hexed(case, "private", "envelope")
    bound = case["binding"]
    context = {name: bytes.fromhex(bound[name]) for name in ("study", "previous")}
    context |= {name: bound[name] for name in ("round", "attempt", "width", "size")} | {
        "purpose": bound["content"]
    }
    info = binding(context, bound["sender"], bound["recipient"])
    if bad:
        with pytest.raises((InvalidTag, ValueError)):
            hpke_open(private, envelope, info)
        return
    (content,) = hexed(case, "content")
    assert hpke_open(private, envelope, info) == content
    lattice, point = (
        MLKEM768PrivateKey.from_seed_bytes(private[:64]),
        X25519PrivateKey.from_private_bytes(private[64:]),
    )
    public = lattice.public_key().public_bytes_raw() + point.public_key().public_bytes_raw()
    assert hashlib.sha256(public).hexdigest() == case["public_sha256"]
    assert hpke_open(private, seal(public, content, info), info) == content


# A challenge is a digest: none has another length.
@each("inner_product", without=("bad_short_challenge",))
def test_inner_product(case, bad):
    chi, values, product = hexed(case, "chi", "values", "product")
    repeated = np.tile(signed(values, case["width"]), case["repeat"])
    assert (inner_product(chi, repeated) == int.from_bytes(product, "little")) != bad


@each("integrity")
def test_the_check_of_a_sum(case, bad):
    context, outcome, chi, total = hexed(case, "context", "outcome", "challenge", "total")
    coins = {name: bytes.fromhex(h["coin"]) for name, h in case["hospitals"].items()}
    committed = all(
        commit(coins[n], context, n).hex() == h["commitment"] for n, h in case["hospitals"].items()
    )
    asked = digest("integrity-challenge", [outcome, coins]) == chi
    answers = [
        h["answer"] and int.from_bytes(bytes.fromhex(h["answer"]), "little")
        for h in case["hospitals"].values()
    ]
    answered = all(answer is not None and answer < P61 for answer in answers)
    small = abs(signed(total, 64).astype(object)).max() < 2**60
    right = answered and sum(answers) % P61 == inner_product(chi, signed(total, 64))
    assert (committed and asked and small and right) != bad
    if not bad:
        scalars = {name: bytes.fromhex(h["private"])[64:] for name, h in case["hospitals"].items()}
        keys = {name: X25519PrivateKey.from_private_bytes(scalar) for name, scalar in scalars.items()}
        points = {name: key.public_key().public_bytes_raw() for name, key in keys.items()}
        for name, answer in zip(case["hospitals"], answers, strict=True):
            value = inner_product(
                chi, signed(bytes.fromhex(case["hospitals"][name]["update"]), case["width"])
            )
            for peer in points.keys() - {name}:
                both = [points[name], points[peer]]
                value += pair_element(scalars[name], both, (name, peer), cbor([outcome, chi]))
            assert value % P61 == answer


# -- what it is --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [independent_client, independent_receipts])
def test_it_is_short_and_shares_no_code(module):
    text = Path(module.__file__).read_text()
    assert len(text.splitlines()) < 200
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    own = {"tests.protocols.independent_receipts"} if module is independent_client else set()
    foreign = {name for name in imported if name.split(".")[0] not in sys.stdlib_module_names} - own
    assert {name.split(".")[0] for name in foreign} <= ALLOWED


def test_the_document_has_every_record_as_the_toolkit_has_it():
    kinds = {record.kind: record for record in _records(Record)}
    assert set(independent_receipts.FORMS) <= set(kinds)
    for kind, fields in independent_receipts.FORMS.items():
        assert list(fields) == list(kinds[kind].model_fields), kind
    asked = {"announcement", "settled", "challenge", "verification", "signed-contribution", "signed-answer"}
    assert asked | {"signed-outcome", "signed-closing", "envelope", "refusal"} <= set(
        independent_receipts.FORMS
    )


def _records(of):
    return [record for sub in of.__subclasses__() for record in [sub, *_records(sub)]]
