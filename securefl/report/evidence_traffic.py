"""What left each hospital, by kind, how often and in how many bytes; and what of it became readable to others.

Three sources, told apart: *measured* is what the engine counted while it ran (the history); *recorded* is the length of
signed messages as they stand in the receipts; *computed* follows from the protocol, the members and the sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from protocols.chain import SignedOutcome
from protocols.envelope import OVERHEAD_BYTES
from protocols.errors import ProtocolError
from protocols.norm_program import sent_bytes
from protocols.prg import SEED_BYTES
from securefl.audit import Verdict
from securefl.report.evidence import Evidence
from securefl.roles.messages import Accepted
from securefl.roles.records import receipt_name
from securefl.roles.terms import UPDATE, Terms
from securefl.run_folder import RunFolder


@dataclass(frozen=True)
class Sent:
    """One kind of message.

    Attributes:
        kind: what it is.
        times: how often it left, in the attempts that were settled.
        size: bytes of all of them together; None if nobody counted.
        source: "measured", "recorded" or "computed".
        readable: who can read what is in it.
    """

    kind: str
    times: int
    size: int | None
    source: str
    readable: str


@dataclass(frozen=True)
class Site:
    """What left one hospital."""

    hospital: str
    sent: Sequence[Sent]

    @property
    def total(self) -> int | None:
        """Bytes of all kinds; None if one was not counted."""
        sizes = [sent.size for sent in self.sent]
        return None if None in sizes else sum(size for size in sizes if size is not None)


@dataclass(frozen=True)
class Opened:
    """What became readable to members, of all hospitals together.

    Attributes:
        what: for example "sum of updates".
        times, size: how often, and bytes of all of them; None if they are not counted in bytes.
        source: as in ``Sent``.
        whom: to whom.
    """

    what: str
    times: int
    size: int | None
    source: str
    whom: str


@dataclass(frozen=True)
class Traffic:
    """All that moved.

    Attributes:
        sites: a hospital each.
        opened: what could be read by others than its sender.
        among_parties: what the parties sent each other.
        pieces: what one contribution to a round of training consists of, name and bytes, computed.
        repeated: attempts that were begun and not settled; what was sent in them is in no figure here.
        notes: sentences on what the figures leave out.
    """

    sites: Sequence[Site]
    opened: Sequence[Opened]
    among_parties: Sequence[Opened]
    pieces: Sequence[tuple[str, int]]
    repeated: int
    notes: Sequence[str]


def outcomes(run: RunFolder) -> list[SignedOutcome]:
    """The receipts that can be read, in order, up to the first that cannot; whether they verify is said elsewhere."""
    store, found = run.store(), list[SignedOutcome]()
    try:
        while receipt_name(len(found)) in store:
            found.append(SignedOutcome.from_bytes(store[receipt_name(len(found))]))
    except (ProtocolError, OSError):
        pass
    return found


def traffic(run: RunFolder, evidence: Evidence, verdict: Verdict) -> Traffic:
    """Count what a run folder tells of; without the study's terms, nothing."""
    terms = evidence.terms
    if terms is None:
        return Traffic([], [], [], [], 0, ["The study cannot be read, so nothing was counted."])
    signed = outcomes(run)
    repeated = sum(s.outcome.context.attempt - 1 for s in signed)
    notes = [
        "A contribution's bytes are the mean over the hospitals of a round; all of a round have about the same length.",
        "Left out: what TLS and TCP add, and messages of a few bytes that say that a hospital is behind or declines.",
    ]
    if repeated:
        notes.append(
            f"Left out: what was sent in {repeated} attempts that were begun and not settled, at most one contribution "
            "a hospital each."
        )
    if evidence.simulation:
        notes.append(
            "This was a simulation: these messages passed between processes of one computer, as they would pass "
            "between organisations."
        )
    counted = _Count(run, evidence, terms, signed)
    return Traffic(
        sites=[counted.site(hospital) for hospital in terms.hospitals],
        opened=list(counted.opened(verdict)),
        among_parties=counted.among_parties(),
        pieces=counted.pieces(),
        repeated=repeated,
        notes=notes,
    )


class _Count:
    """One counting."""

    def __init__(
        self, run: RunFolder, evidence: Evidence, terms: Terms, signed: Sequence[SignedOutcome]
    ) -> None:
        self._run, self._evidence, self._terms = run, evidence, terms
        self._outcomes = [s.outcome for s in signed]
        self._uploads = {line["round"]: line.get("upload_bytes") for line in evidence.history}
        updates = [o.context for o in self._outcomes if o.round > 0]
        self._size = updates[0].size if updates else None
        self._coins: dict[str, list[int]] = {}
        self._answers: dict[str, list[int]] = {}
        for outcome in self._outcomes:
            self._read_check(outcome.round)

    def _read_check(self, round_: int) -> None:
        try:
            record = self._run.verification(round_)
        except (ProtocolError, OSError):
            return
        for coin in record.coins if record else []:
            self._coins.setdefault(coin.hospital, []).append(len(coin.to_bytes()))
        for given in record.answers if record else []:
            self._answers.setdefault(given.answer.hospital, []).append(len(given.to_bytes()))

    def site(self, hospital: str) -> Site:
        contributed = [o.round for o in self._outcomes if hospital in o.frozen.contributions]
        sealed = "sealed to the parties; nobody reads it but for its sender's name, digests and signature"
        coins, answers = self._coins.get(hospital, []), self._answers.get(hospital, [])
        statistics = [round_ for round_ in contributed if round_ == 0]
        updates = [round_ for round_ in contributed if round_ > 0]
        accepted = [len(Accepted(member=hospital, round=o.round).to_bytes()) for o in self._outcomes]
        sent = [
            Sent(self._first(), len(statistics),
                 self._uploaded(statistics), "measured", sealed),
            Sent("contribution of an update", len(updates), self._uploaded(updates), "measured", sealed),
            Sent("coin for the check of a sum", len(coins), sum(coins), "recorded",
                 "everyone: 32 random bytes, and the digests of what was contributed"),
            Sent("answer to the check of a sum", len(answers), sum(answers), "recorded",
                 "everyone: one number, masked; only the sum over all hospitals says something"),
            Sent("word that an outcome was accepted", len(accepted), sum(accepted), "computed",
                 "the coordinator: a round's number"),
        ]  # fmt: skip
        return Site(hospital, sent)

    def _first(self) -> str:
        return (
            "contribution to the roll call"
            if self._terms.private
            else "contribution of counts and sums for standardising"
        )

    def _uploaded(self, rounds: Sequence[int]) -> int | None:
        sizes = [self._uploads.get(round_) for round_ in rounds]
        return None if None in sizes else sum(int(size) for size in sizes if size is not None)

    def opened(self, verdict: Verdict) -> list[Opened]:
        lengths = {o.round: o.context.size * o.context.width // 8 for o in self._outcomes}
        everyone = "parties, coordinator, hospitals, and whoever is given the receipts"
        updates = [length for round_, length in lengths.items() if round_ > 0]
        noisy = "sum of clipped updates, with noise" if self._terms.private else "sum of updates"
        found = [
            Opened(self._statistics(), len(lengths) - len(updates), lengths.get(0, 0), "recorded", everyone),
            Opened(noisy, len(updates), sum(updates), "recorded", everyone),
        ]
        if verdict.norm_check is not None:
            bits = sum(len(o.frozen.contributions) for o in self._outcomes if o.round > 0)
            found.append(
                Opened("one bit a hospital: within the norm bound or not", bits, None, "recorded", everyone)
            )
        takes = sum(len(o.frozen.cohort) for o in self._outcomes)
        found.append(
            Opened("who was asked, who took part, why others did not", takes, None, "recorded", everyone)
        )
        return found

    def _statistics(self) -> str:
        study = self._evidence.study
        if self._terms.private is not None:
            return "roll call: the number of hospitals; nothing that is computed from records"
        standardised = study is not None and study.settings.data.standardise in ("features", "channels")
        sums = ", sums and sums of squares of the inputs" if standardised else ""
        return f"total number of records of all hospitals{sums}"

    def among_parties(self) -> list[Opened]:
        if self._size is None:
            return []
        rounds = sum(o.round > 0 for o in self._outcomes)
        parties = len(self._terms.parties)
        opening = sum(
            8 * o.context.size * (len(o.context.parties) - 1) * len(o.context.parties) for o in self._outcomes
        )
        found = [
            Opened("masked shares, to open a sum", len(self._outcomes), opening, "computed", "each party")
        ]
        check = self._terms.norm_check(UPDATE, self._size)
        if check is not None:
            one = parties * sent_bytes(check, len(self._terms.hospitals), parties)
            found.append(
                Opened(
                    "norm check, masked",
                    rounds,
                    rounds * one,
                    "computed",
                    "each party; the dealer deals masks",
                )
            )
        return found

    def pieces(self) -> list[tuple[str, int]]:
        if self._size is None:
            return []
        parties, width = len(self._terms.parties), self._terms.update.width
        found = [
            ("one party's share, written out", self._size * width // 8),
            ("the other parties' shares, as seeds", (parties - 1) * SEED_BYTES),
            ("key encapsulation and tags of the envelopes", parties * OVERHEAD_BYTES),
        ]
        measured = next((u for r, u in self._uploads.items() if r > 0 and u), None)
        rest = measured - sum(size for _, size in found) if measured else 0
        return [*found, ("digests, signature, names, lengths", rest)] if rest > 0 else found
