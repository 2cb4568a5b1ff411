"""The known answers of messages, for the shipped roles and the second client: both answer, or refuse, the same."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.resources import files
from types import SimpleNamespace

import numpy as np
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocols.canonical import decode, digest, encode
from protocols.chain import SignedClosing, SignedOutcome, check_closing, digest_of_verifications
from protocols.contribution import Contribution, RoundContext, check_signature, open_share, sign
from protocols.envelope import SealingKey, envelope_digest
from protocols.errors import (
    ChainError,
    EncodingError,
    ProtocolError,
    SealError,
    SignatureError,
    WrongSumError,
)
from protocols.ring import Encoding
from protocols.sharing import Shape, add_share, check_share, zeros
from protocols.signing import SigningKey
from securefl.consent import Consent
from securefl.errors import RefusedError
from securefl.roles.hospital import HospitalMachine
from securefl.roles.host import Answering
from securefl.roles.messages import Settled, Verification
from securefl.roles.pledges import Pledge
from securefl.roles.replica import Replica
from securefl.roles.sum_check import check_verification
from securefl.roles.terms import Terms
from securefl.study.training_settings import ServerSettings
from tests.protocols import independent_client as second
from tests.protocols import independent_receipts as reader
from tests.protocols.rfc8949 import by_hand
from tests.protocols.test_vectors import hpke_open
from tests.protocols.write_vectors import FOLDER, written

unhex = bytes.fromhex
DIALOGUES = ("announcement", "permit", "outcome", "sum_check")


@cache
def load(file):
    given = json.loads((files("protocols") / "vectors" / "v1" / f"{file}.json").read_text())
    assert given["version"] == 1
    return given


def cases(file, bad=None):
    found = load(file)["cases"]
    assert len({case["name"] for case in found}) == len(found)
    return [pytest.param(c, id=c["name"]) for c in found if bad in (None, c["name"].startswith("bad_"))]


def floats(text):
    return np.frombuffer(unhex(text), "<f8")


STUDY = load("study")
SERVER = ServerSettings(
    optimizer="fedavgm",
    learning_rate=STUDY["server"]["learning_rate"],
    momentum=STUDY["server"]["momentum"],
)
TRAINABLE = STUDY["server"]["trainable"]


def test_the_files_are_what_their_writer_writes():
    for name, text in written().items():
        assert (FOLDER / f"{name}.json").read_text() == text, (
            f"{name}.json: python -m tests.protocols.write_vectors"
        )


# -- one encoding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("canonical", bad=False))
def test_a_value_has_one_encoding(case):
    data = unhex(case["bytes"])
    value = decode(data)
    assert encode(value) == by_hand(value) == reader.cbor(value) == data
    hashed = hashlib.sha256(by_hand(["securefl", "vector", value])).digest()
    assert digest("vector", value) == reader.digest("vector", value) == hashed == unhex(case["digest"])


@pytest.mark.parametrize("case", cases("canonical", bad=True))
def test_other_bytes_are_refused(case):
    with pytest.raises(EncodingError):
        decode(unhex(case["bytes"]))
    # As the one unsigned field of a message, for the second client.
    message = b"\x82" + by_hand("behind") + b"\xa2" + by_hand("round") + unhex(case["bytes"])
    with pytest.raises(reader.Refused, match="malformed"):
        reader.read(message + by_hand("hospital") + by_hand("va"))


# -- ours --------------------------------------------------------------------------------------------------------------


def terms():
    hospitals = {name: unhex(keys["signing"]) for name, keys in STUDY["hospitals"].items()}
    sealing = {name: unhex(keys["sealing"]) for name, keys in STUDY["hospitals"].items()}
    encodings = {
        purpose: Encoding(e["width"], e["bits"], 24 if e["width"] == 64 else 3)
        for purpose, e in STUDY["encodings"].items()
    }
    assert [str(e.limit) for e in encodings.values()] == [e["limit"] for e in STUDY["encodings"].values()]
    return Terms(
        study=unhex(STUDY["study"]), hospitals=hospitals, sealing=sealing,
        parties={name: unhex(key) for name, key in STUDY["parties"].items()}, minimum=STUDY["minimum"], colluding=0,
        collusion_bound=1, minimum_parties=STUDY["minimum_parties"], rounds=STUDY["rounds"], **encodings,
        norm_bound=None, hospital_seconds=1.0, party_seconds=1.0, exhibits=False, unchecked=False,
    )  # fmt: skip


class Numbers:
    """A trainer with the file's numbers, or a case's own update."""

    def __init__(self, update=STUDY["update"]):
        self._update = floats(update)

    def initial_model(self):
        return floats(STUDY["initial_model"]).copy()

    def statistics(self):
        return floats(STUDY["statistics"])

    def use_statistics(self, total):
        pass

    def update(self, model, round_):
        return self._update


class Memory(dict):
    """A store that is no folder."""

    def put(self, name, data):
        self[name] = data
        if not data:
            del self[name]

    keep = put


def follow(replica, settled):
    return replica.follow(settled, terms(), SERVER, TRAINABLE)


def ours(case, files):
    stored = Memory()
    replica = Replica.initial(terms(), Numbers().initial_model())
    for before in STUDY["cases"][: case["outcomes"]]:
        replica = follow(replica, Settled.from_bytes(unhex(before["settled"])))
    stored["memory"] = replica.to_bytes()
    if case["pledged"]:
        made = STUDY["cases"][case["outcomes"]]
        contribution = Contribution.from_bytes(unhex(made["contribution"]))
        pledge = Pledge(contribution=contribution, coin=unhex(made["coin"]), vector=unhex(made["vector"]))
        stored[f"pledge-{case['outcomes']}"] = pledge.to_bytes()
    consent = None
    if "steward" in case:
        steward, study = unhex(case["steward"]), unhex(STUDY["study"])
        consent = Consent(files.folder, steward, study, STUDY["hospital"], files.clock, private=False)
    machine = HospitalMachine(
        STUDY["hospital"], terms(), SigningKey(unhex(STUDY["signing"])), SealingKey(unhex(STUDY["sealing"])),
        Numbers(case.get("update", STUDY["update"])), SERVER, TRAINABLE, stored, consent=consent,
    )  # fmt: skip
    return Answering(machine, stored)


# -- the second client -------------------------------------------------------------------------------------------------


def facts():
    given = {name: STUDY[name] for name in ("minimum", "minimum_parties", "rounds")} | STUDY["server"]
    return SimpleNamespace(
        study=unhex(STUDY["study"]),
        hospitals={n: (unhex(k["signing"]), unhex(k["sealing"])) for n, k in STUDY["hospitals"].items()},
        parties={name: unhex(key) for name, key in STUDY["parties"].items()},
        encodings={p: (e["width"], e["bits"], int(e["limit"])) for p, e in STUDY["encodings"].items()},
        **given,
    )


def the_second(case, files):
    update = floats(case.get("update", STUDY["update"]))
    client = second.Client(
        facts(), STUDY["hospital"], unhex(STUDY["signing"]), unhex(STUDY["sealing"]),
        floats(STUDY["initial_model"]), lambda: floats(STUDY["statistics"]), lambda *_: update,
        (lambda: (unhex(case["steward"]), *files.contents(), files.clock())) if "steward" in case else None,
    )  # fmt: skip
    for before in STUDY["cases"][: case["outcomes"]]:
        client.answer(unhex(before["settled"]))
    if case["pledged"]:
        made = STUDY["cases"][case["outcomes"]]
        width = 32 if case["outcomes"] else 64
        vector = np.frombuffer(unhex(made["vector"]), f"<u{width // 8}")
        _, contribution = reader.read(unhex(made["contribution"]))
        client.pledge = (contribution, unhex(made["coin"]), vector)
    return client


# -- what a hospital answers -------------------------------------------------------------------------------------------


class Files:
    """A hospital's permit and revocation as they lie there when a message comes, and its clock."""

    def __init__(self, folder):
        self.folder, self._time = folder, 0

    def lay(self, step):
        self._time = step.get("time", 0)
        for name in ("permit", "revocation"):
            path = self.folder / f"{name}.cbor"
            path.unlink(missing_ok=True)
            if step.get(name):
                path.write_bytes(unhex(step[name]))

    def contents(self):
        paths = [self.folder / f"{name}.cbor" for name in ("permit", "revocation")]
        return [path.read_bytes() if path.exists() else None for path in paths]

    def clock(self):
        return self._time


EACH = pytest.mark.parametrize("made", [ours, the_second], ids=["ours", "second"])


@EACH
@pytest.mark.parametrize("case", [case for file in DIALOGUES for case in cases(file)])
def test_a_hospital_answers(made, case, tmp_path):
    files = Files(tmp_path)
    hospital, last = made(case, files), None
    for step in case["dialogue"]:
        files.lay(step)
        answers = hospital.answer(unhex(step["message"]))
        if "answers" in step:
            assert [answer.hex() for answer in answers] == step["answers"]
        elif "reason" in step:
            (answer,) = answers
            kind, refusal = json_of(answer)
            assert (kind, refusal["reason"], refusal["member"]) == (
                "refusal",
                step["reason"],
                STUDY["hospital"],
            )
        elif "declines" in step:
            (answer,) = answers
            kind, declined = json_of(answer)
            _, announcement = reader.read(unhex(step["message"]))
            context = reader.digest("round", announcement["context"])
            assert (kind, declined["reason"]) == ("declined", step["declines"])
            assert (declined["context"], declined["hospital"]) == (context, STUDY["hospital"])
        else:
            (answer,) = answers
            assert json_of(answer)[0] == step["kind"]
            assert (answer == last) == step["same"]
            check_contribution(step["message"], answer)
            last = answer


def json_of(data):
    return reader.read(data)


def check_contribution(announcement, data):
    """Opened with the parties' keys, its shares add up to the encoded vector."""
    _, asked = reader.read(unhex(announcement))
    _, sent = reader.read(data)
    context, made = asked["context"], sent["contribution"]
    public = [unhex(STUDY["hospitals"][STUDY["hospital"]]["signing"])]
    reader.check_signatures("contribution", made, public, [sent["signature"]], "not-signed")
    bound = reader.cbor([reader.digest("round", context), STUDY["hospital"]])
    total, dtype = 0, f"<u{context['width'] // 8}"
    for rank, (party, envelope) in enumerate(zip(context["parties"], sent["envelopes"], strict=True)):
        key = unhex(STUDY["round_keys"][f"{party}/{context['round']}/{context['attempt']}"])
        content = hpke_open(key, envelope, second.binding(context, STUDY["hospital"], party))
        assert made["envelopes"][rank] == envelope_digest(envelope)
        size = context["size"] * context["width"] // 8
        label = rank.to_bytes(2, "big") + bound
        mask = content[:-1] if content[-1] else reader.stream(content[:-1], "share", label, size)
        total = total + np.frombuffer(mask, dtype)
    assert total.tobytes() == unhex(STUDY["cases"][context["round"]]["vector"])


def test_every_bad_message_has_a_reason_and_every_reason_a_bad_message():
    reasons = set()
    for file in DIALOGUES:
        for param in cases(file):
            case = param.values[0]
            refused = [
                s.get("reason") or s["declines"] for s in case["dialogue"] if {"reason", "declines"} & {*s}
            ]
            if case["name"].startswith("bad_"):
                assert len(refused) == 1
            reasons.update(refused)
    # second-outcome, second-challenge, update-lost: only after a loss of memory, or with a broken hash.
    assert reasons == {
        "other-study", "other-round", "other-encoding", "other-parties", "wrong-sum", "other-chain", "unknown-hospital",
        "too-few-hospitals", "not-in-cohort", "other-model", "other-key", "key-not-pinned", "second-announcement",
        "earlier-attempt",
        "not-approved", "update-not-encodable", "other-size",
        "malformed", "foreign-contribution", "other-outcome", "bad-challenge", "not-verified",
    }  # fmt: skip


# -- contributions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("contribution", bad=False))
def test_a_contribution_is_made_of_these_bytes(case):
    _, context = reader.read(unhex(case["context"]))
    assert reader.digest("round", context).hex() == case["context_digest"]
    dtype = f"<u{context['width'] // 8}"
    seeds, x = [unhex(seed) for seed in case["seeds"]], np.frombuffer(unhex(case["vector"]), dtype)
    made = second.plaintexts(x, context, case["hospital"], seeds)
    assert [plaintext.hex() for plaintext in made] == case["plaintexts"]
    envelopes = [unhex(envelope) for envelope in case["envelopes"]]
    contribution = second.contribution(context, case["hospital"], envelopes, unhex(case["coin"]))
    assert reader.cbor(["contribution", contribution]).hex() == case["contribution"]
    key = Ed25519PrivateKey.from_private_bytes(unhex(case["signing"]))
    assert key.sign(reader.to_sign("contribution", contribution)).hex() == case["signature"]
    record = Contribution.from_bytes(unhex(case["contribution"]))
    assert sign(record, SigningKey(unhex(case["signing"]))).hex() == case["signature"]
    for judge in (open_with_ours, open_with_second):
        assert judge(case) == unhex(case["vector"])


@pytest.mark.parametrize("case", cases("contribution", bad=True))
def test_a_bad_contribution_is_refused(case):
    for judge in (open_with_ours, open_with_second):
        with pytest.raises(reader.Refused) as refused:
            judge(case)
        assert str(refused.value) == case["reason"]


def open_with_ours(case):
    """The sum of the shares, as the parties check and open them."""
    context = RoundContext.from_bytes(unhex(case["context"]))
    shape, total = Shape(context.size, context.width), zeros(Shape(context.size, context.width))
    try:
        made, reason = Contribution.from_bytes(unhex(case["contribution"])), "not-signed"
        check_signature(made, terms().hospitals[case["hospital"]], unhex(case["signature"]))
        reader.need(made.context == context.digest(), "other-context")
        reader.need(len(made.envelopes) == len(context.parties), "not-one-envelope-a-party")
        for rank, (party, text) in enumerate(zip(context.parties, case["envelopes"], strict=True)):
            reader.need(envelope_digest(unhex(text)) == made.envelopes[rank], "envelope-not-signed")
            content = open_share(
                unhex(text), SealingKey(unhex(case["private"][rank])), context, made.hospital, party
            )
            check_share(content, shape)
            add_share(total, content, rank, reader.cbor([context.digest(), made.hospital]))
    except SignatureError as error:
        raise reader.Refused(reason) from error
    except SealError as error:
        raise reader.Refused("does-not-open") from error
    except ProtocolError as error:
        raise reader.Refused("malformed") from error
    return total.tobytes()


def open_with_second(case):
    _, context = reader.read(unhex(case["context"]))
    _, made = reader.read(unhex(case["contribution"]))
    public = facts().hospitals[case["hospital"]][0]
    reader.check_signatures("contribution", made, [public], [unhex(case["signature"])], "not-signed")
    reader.need(made["context"] == reader.digest("round", context), "other-context")
    reader.need(len(made["envelopes"]) == len(context["parties"]), "not-one-envelope-a-party")
    total, bound = 0, reader.cbor([made["context"], made["hospital"]])
    for rank, (party, text) in enumerate(zip(context["parties"], case["envelopes"], strict=True)):
        reader.need(second.blake3(unhex(text)).digest() == made["envelopes"][rank], "envelope-not-signed")
        try:
            info = second.binding(context, made["hospital"], party)
            content = hpke_open(unhex(case["private"][rank]), unhex(text), info)
        except InvalidTag as error:
            raise reader.Refused("does-not-open") from error
        size, label = context["size"] * context["width"] // 8, rank.to_bytes(2, "big") + bound
        share = content[:-1] if content[-1] else reader.stream(content[:-1], "share", label, size)
        total = total + np.frombuffer(share, f"<u{context['width'] // 8}")
    return total.tobytes()


# -- receipts ----------------------------------------------------------------------------------------------------------


def _judge(record, settled):
    try:
        check_verification(record, settled.signed.outcome, settled.total, terms())
    except WrongSumError as error:
        raise reader.Refused("wrong-sum") from error
    except ChainError as error:
        raise reader.Refused("not-verified") from error


def check_with_ours(case):
    try:
        return _followed(case)
    except RefusedError as error:
        raise reader.Refused(error.reason) from error
    except ChainError as error:
        raise reader.Refused("other-chain") from error


def _followed(case):
    replica, digests = Replica.initial(terms(), Numbers().initial_model()), []
    for receipt, total, check in zip(case["receipts"], case["sums"], case["verifications"], strict=True):
        settled = Settled(signed=SignedOutcome.from_bytes(unhex(receipt)), total=unhex(total))
        replica = follow(replica, settled)
        record = Verification.from_bytes(unhex(check)) if check else None
        if record:
            _judge(record, settled)
        digests.append(record.digest() if record else b"")
    closing, end = SignedClosing.from_bytes(unhex(case["closing"])), replica.place
    check_closing(closing, terms().study, end.round, end.previous, terms().signers)
    reader.need(end.round == terms().rounds + 1, "other-chain")
    reader.need(closing.closing.model == replica.state.digest(), "other-chain")
    reader.need(closing.closing.verifications == digest_of_verifications(digests), "other-chain")
    reader.need(closing.closing.unverified == [i for i, d in enumerate(digests) if not d], "other-chain")
    return replica.state.model


def check_with_second(case):
    chain, digests = reader.Chain(facts(), floats(STUDY["initial_model"])), []
    for receipt, total, check in zip(case["receipts"], case["sums"], case["verifications"], strict=True):
        _, signed = reader.read(unhex(receipt))
        outcome = signed["outcome"]
        chain.check_outcome(outcome, signed["signatures"], unhex(total))
        if check:
            _, record = reader.read(unhex(check))
            named = (record["round"], record["outcome"])
            reader.need(
                named == (outcome["context"]["round"], reader.digest("outcome", outcome)), "not-verified"
            )
            right = chain.sum_is_right(outcome, unhex(total), record["coins"], record["answers"])
            reader.need(right, "wrong-sum")
        digests.append(reader.digest("verification", record) if check else b"")
        chain.follow(outcome, unhex(total))
    _, end = reader.read(unhex(case["closing"]))
    chain.check_closing(end["closing"], end["signatures"], digests)
    return chain.x


CHECKS = pytest.mark.parametrize("check", [check_with_ours, check_with_second], ids=["ours", "second"])


@CHECKS
@pytest.mark.parametrize("case", cases("receipts", bad=False))
def test_receipts_are_checked(check, case):
    assert check(case).tobytes() == unhex(STUDY["final_model"])


@CHECKS
@pytest.mark.parametrize("case", cases("receipts", bad=True))
def test_bad_receipts_are_refused(check, case):
    with pytest.raises(reader.Refused) as refused:
        check(case)
    assert str(refused.value) == case["reason"]
