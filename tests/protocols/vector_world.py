"""The made-up study of the known answers: its members, its rounds, and its end. Its keys are worth nothing.

Everything follows from fixed names by SHA-512, but HPKE's encapsulations, which are random: an envelope that stands in
the file and opens to what it should is kept.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from unittest.mock import patch

import numpy as np

from protocols import integrity
from protocols.canonical import Record
from protocols.chain import Closing, Outcome, SignedOutcome, beginning, digest_of_verifications
from protocols.contribution import (
    Contribution,
    FrozenList,
    RoundContext,
    RoundKey,
    binding,
    share_context,
    sign,
    vector_holder,
)
from protocols.envelope import SealingKey, envelope_digest, seal
from protocols.errors import SealError
from protocols.ring import Encoding, signed
from protocols.sharing import share
from protocols.signing import SigningKey
from securefl.roles.messages import (
    Announcement,
    CoinRevealed,
    Settled,
    SignedAnswer,
    SignedRoundKey,
    Verification,
)
from securefl.study.training_settings import ServerSettings
from securefl.training.server import ServerState

FOLDER = Path(__file__).parents[2] / "protocols/vectors/v1"
HOSPITALS, PARTIES, OWN = ("b", "st-anna", "va"), ("uni", "registry", "auditor"), "va"
ROUNDS, TRAINABLE = 2, 5
SERVER = ServerSettings(optimizer="fedavgm", learning_rate=0.5, momentum=0.75)
ENCODINGS = {
    "statistics": Encoding.for_bound(64, 2.0**40, 24),
    "update": Encoding.for_bound(32, 4.0, 3),
}
INITIAL = np.linspace(-1.0, 1.0, 7)
STATISTICS = {"b": [10.0, 2.5], "st-anna": [25.0, -7.125], "va": [15.0, 0.1]}
UPDATES = {name: np.sin(np.arange(7) * (3 + i)) / (2 + i) for i, name in enumerate(HOSPITALS)}
STUDY = hashlib.sha256(b"a made-up study").digest()


def drawn(*names: object, size: int = 32) -> bytes:
    return hashlib.sha512("/".join(map(str, names)).encode()).digest()[:size] + (
        drawn("more", *names, size=size - 64) if size > 64 else b""
    )


SIGNING = {name: SigningKey(drawn("signing", name)) for name in (*HOSPITALS, *PARTIES)}
SEALING = {name: SealingKey(drawn("sealing", name, size=96)) for name in HOSPITALS}


def sum_digest(total: bytes) -> bytes:
    return hashlib.sha256(total).digest()


def changed(record, **fields):
    return record.model_copy(update=fields)


def signatures(record: Record, names) -> list[bytes]:
    return [sign(record, SIGNING[name]) for name in names]


def round_key(party: str, round_: int, attempt: int) -> SealingKey:
    return SealingKey(drawn("round-key", party, round_, attempt, size=96))


def announced(context: RoundContext, cohort=HOSPITALS) -> Announcement:
    keys = []
    for party in context.parties:
        public = round_key(party, context.round, context.attempt).public
        key = RoundKey(context=context.digest(), party=party, public=public)
        signer = SIGNING.get(party, SIGNING["uni"])
        keys.append(SignedRoundKey(key=key, signature=sign(key, signer)))
    return Announcement(context=context, cohort=list(cohort), keys=keys)


def coin(hospital: str, context: RoundContext) -> bytes:
    return drawn("coin", hospital, context.digest().hex())


class Kept:
    """The envelopes that stand in a file already."""

    def __init__(self) -> None:
        path = FOLDER / "contribution.json"
        self._known = {}
        if path.exists():
            for case in json.loads(path.read_text())["cases"]:
                self._known[case["name"]] = [bytes.fromhex(e) for e in case["envelopes"]]

    def seal(self, name, context, hospital, plaintexts) -> list[bytes]:
        envelopes = self._known.get(name, [])
        keys = [round_key(party, context.round, context.attempt) for party in context.parties]
        bound = [binding(context, hospital, party) for party in context.parties]
        try:
            opened = [key.open(e, b) for key, e, b in zip(keys, envelopes, bound, strict=True)]
        except (SealError, ValueError):
            opened = []
        if opened != [bytes(p) for p in plaintexts]:
            parts = zip(keys, plaintexts, bound, strict=True)
            envelopes = [seal(key.public, plaintext, b) for key, plaintext, b in parts]
            self._known[name] = envelopes
        return envelopes


class World:
    """The made-up study: its three rounds, what was sent in them, and the end."""

    def __init__(self) -> None:
        self.kept = Kept()
        self.state = ServerState.initial(INITIAL)
        self.previous = beginning(STUDY)
        self.contexts, self.settled, self.made, self.verifications = [], [], [], []
        self.states = []  # before each round
        for round_ in range(ROUNDS + 1):
            self._play(round_)
        self.closing = self.closed()

    def context(self, round_, **fields) -> RoundContext:
        purpose = "update" if round_ else "statistics"
        size = len(INITIAL) if round_ else 2
        given = {
            "study": STUDY, "round": round_, "attempt": 1, "previous": self.previous, "purpose": purpose,
            "model": self.state.digest(), "parties": list(PARTIES), "width": ENCODINGS[purpose].width, "size": size,
        }  # fmt: skip
        return RoundContext(**(given | fields))

    def vector(self, hospital, context):
        values = UPDATES[hospital] if context.round else np.array(STATISTICS[hospital])
        return ENCODINGS[context.purpose].encode(values)

    def plaintexts(self, hospital, context, x):
        seeds = [drawn("seed", hospital, context.digest().hex(), party) for party in context.parties]
        explicit = vector_holder(context, hospital, len(context.parties))
        used = [seed for party, seed in enumerate(seeds) if party != explicit]
        with patch("protocols.sharing.new_seed", side_effect=used):
            return seeds, share(x, len(seeds), explicit, share_context(context, hospital))

    def contribution(self, hospital, context, name=""):
        """With real envelopes if it has a name, else with invented digests of such."""
        envelopes = []
        if name:
            _, plaintexts = self.plaintexts(hospital, context, self.vector(hospital, context))
            envelopes = self.kept.seal(name, context, hospital, plaintexts)
        digests = [drawn("envelope", hospital, context.digest().hex(), party) for party in context.parties]
        commitment = integrity.commit_coin(coin(hospital, context), context.digest(), hospital)
        made = Contribution(
            context=context.digest(),
            hospital=hospital,
            envelopes=[envelope_digest(e) for e in envelopes] or digests,
            coin=commitment,
        )
        return made, envelopes

    def outcome(self, context, made, **fields) -> Outcome:
        contributions = {name: made[name].digest() for name in sorted(made)}
        absent = {name: "no-answer" for name in HOSPITALS if name not in made}
        frozen = FrozenList(
            context=context.digest(), cohort=list(HOSPITALS), contributions=contributions, absent=absent
        )
        given = {"context": context, "frozen": frozen, "excluded": {}} | fields
        return Outcome(
            **({"total": sum_digest(self.total(context, made))} if "total" not in given else {}), **given
        )

    def total(self, context, made) -> bytes:
        dtype = f"<u{context.width // 8}"
        return sum((self.vector(name, context) for name in made), np.zeros(context.size, dtype)).tobytes()

    def settle(self, outcome, total, signers=None) -> Settled:
        names = outcome.context.parties if signers is None else signers
        return Settled(
            signed=SignedOutcome(outcome=outcome, signatures=signatures(outcome, names)), total=total
        )

    def revealed(self, outcome, made) -> list[CoinRevealed]:
        return [
            CoinRevealed(
                hospital=name,
                outcome=outcome.digest(),
                contribution=made[name],
                coin=coin(name, outcome.context),
            )
            for name in outcome.included
        ]

    def answers(self, outcome, made) -> list[SignedAnswer]:
        coins = {c.hospital: c.coin for c in self.revealed(outcome, made)}
        chi = integrity.challenge(outcome.digest(), coins)
        publics = {name: SEALING[name].public for name in outcome.included}
        given = []
        for name in outcome.included:
            masks = integrity.PairMasks(SEALING[name], name, publics)
            values = signed(self.vector(name, outcome.context))
            answer = integrity.answer(outcome.digest(), chi, values, masks)
            given.append(SignedAnswer(answer=answer, signature=sign(answer, SIGNING[name])))
        return given

    def verified(self, outcome, made) -> Verification:
        return Verification(
            round=outcome.round,
            outcome=outcome.digest(),
            coins=self.revealed(outcome, made),
            answers=self.answers(outcome, made),
        )

    def _play(self, round_: int) -> None:
        context = self.context(round_)
        made = {
            name: self.contribution(name, context, f"round_{round_}" if name == OWN else "")[0]
            for name in HOSPITALS
        }
        outcome, total = self.outcome(context, made), self.total(context, made)
        self.contexts.append(context)
        self.states.append(self.state)
        self.made.append(made)
        self.settled.append(self.settle(outcome, total))
        self.verifications.append(self.verified(outcome, made))
        self.previous = outcome.digest()
        if round_:
            delta = ENCODINGS["update"].decode_sum(signed(np.frombuffer(total, "<u4")))
            self.state = self.state.step(delta, TRAINABLE, SERVER)

    def closed(self, **fields) -> Closing:
        given = {
            "study": STUDY, "rounds": len(self.settled), "last": self.previous, "model": self.state.digest(),
            "parties": list(PARTIES), "unverified": [],
            "verifications": digest_of_verifications([v.digest() for v in self.verifications]),
        }  # fmt: skip
        return Closing(**(given | fields))

    def lying(self, round_):
        """A round as parties would sign it who add one somewhere: what is settled, its check, the model after it."""
        honest = self.settled[round_]
        values = np.frombuffer(honest.total, "<u4").copy()
        values[3] += 1
        total = values.tobytes()
        outcome = changed(honest.signed.outcome, total=sum_digest(total))
        delta = ENCODINGS["update"].decode_sum(signed(values))
        model = self.states[round_].step(delta, TRAINABLE, SERVER).digest()
        return self.settle(outcome, total), self.verified(outcome, self.made[round_]), model
