"""What an audit finds: a list of named checks up to the first that does not hold, and what the receipts say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Literal

from protocols.canonical import Record
from protocols.chain import Closing, SignedOutcome
from protocols.contribution import check_signature
from protocols.errors import ProtocolError, SignatureError
from protocols.norm_bounds import NormCheck
from securefl.errors import SecureFLError

Mark = Literal["holds", "unverified", "unchecked", "fails"]


class SumCheck(StrEnum):
    """What came of the hospitals' check of a sum."""

    VERIFIED = "verified"
    UNVERIFIED = "unverified"
    WRONG = "wrong"
    NOT_REACHED = "not reached"


@dataclass(frozen=True)
class Check:
    """One line.

    Attributes:
        name: what was looked at, for example "round 3" or "model.safetensors".
        mark: "holds"; "unverified" (it holds, but the hospitals did not check this sum); "unchecked" (it cannot be
            checked on this computer); "fails".
        says: one sentence.
    """

    name: str
    mark: Mark
    says: str


@dataclass(frozen=True)
class Receipt:
    """A round as its receipt tells it.

    Attributes:
        committee: who opened the sum, in the order of the ranks.
        cohort: the hospitals that were asked.
        included: the hospitals in the sum.
        absent: why the others are not in it, a fixed word each.
        excluded: those of ``absent`` whom the committee excluded after it had their contributions.
        digest: the outcome's, hexadecimal.
        signers: whether each party's signature verifies.
        sum_check: what came of the hospitals' check of the sum.
    """

    round: int
    attempt: int
    committee: Sequence[str]
    cohort: Sequence[str]
    included: Sequence[str]
    absent: Mapping[str, str]
    excluded: Sequence[str]
    digest: str
    signers: Mapping[str, bool]
    sum_check: SumCheck


@dataclass(frozen=True)
class Committee:
    """The same parties in consecutive rounds, ``first`` to ``last``."""

    first: int
    last: int
    parties: Sequence[str]

    def __str__(self) -> str:
        rounds = f"round {self.first}" if self.first == self.last else f"rounds {self.first}-{self.last}"
        size = len(self.parties)
        return f"{rounds}: committee of {size} ({', '.join(self.parties)}): private unless {size} of them collude"


@dataclass(frozen=True)
class Verdict:
    """What came of it.

    Attributes:
        closed: whether the chain has its closing record, and it holds.
        checks: in order; nothing comes after a check that fails.
        receipts: of the rounds that were looked at, the one that fails included if it can be read.
        closing: the closing record, if it was reached and can be read.
        closers: whether the signature of each of its parties verifies.
        norm_check: what the committee checked of each update, with a dealer's randomness; None if nothing.
        insecure: whether the receipts say that neither norms nor sums were checked, on purpose.
        not_signed: what lies in the folder and stands under nobody's signature.
    """

    closed: bool
    checks: Sequence[Check]
    receipts: Sequence[Receipt]
    closing: Closing | None
    closers: Mapping[str, bool]
    norm_check: NormCheck | None
    insecure: bool
    not_signed: Sequence[str]

    @property
    def fault(self) -> Check | None:
        """The first check that does not hold."""
        return next((check for check in self.checks if check.mark == "fails"), None)

    @property
    def unchecked(self) -> list[Check]:
        """What could not be checked here."""
        return [check for check in self.checks if check.mark == "unchecked"]

    @property
    def unverified(self) -> list[int]:
        """The rounds whose sum the hospitals did not check."""
        return [receipt.round for receipt in self.receipts if receipt.sum_check == SumCheck.UNVERIFIED]

    @property
    def holds(self) -> bool:
        """Whether the study is closed and every check was made and holds; a sum may be unverified."""
        return self.closed and self.fault is None and not self.unchecked

    @property
    def committees(self) -> list[Committee]:
        """Who worked in which rounds, as far as the receipts hold."""
        fault = self.fault
        sound = [r for r in self.receipts if fault is None or fault.name != f"round {r.round}"]
        runs = groupby(sound, key=lambda receipt: tuple(receipt.committee))
        found = [(parties, [receipt.round for receipt in receipts]) for parties, receipts in runs]
        return [Committee(rounds[0], rounds[-1], parties) for parties, rounds in found]

    @property
    def claims(self) -> list[str]:
        """What the committees' sizes promise, a sentence each."""
        check = self.norm_check
        if self.insecure:
            return [
                *map(str, self.committees),
                "an INSECURE run: neither norms nor sums were checked by anyone",
            ]
        if check is None:
            return [*map(str, self.committees)]
        dealt = "an update" if check.direct else f"{check.rows} linear functions of an update"
        dealer = f"norm checks: private unless the dealer colludes with a party; together they read {dealt}"
        return [*map(str, self.committees), dealer]

    @property
    def sentence(self) -> str:
        """All of it in one sentence."""
        if self.fault:
            return f"Not verified, {self.fault.name}: {self.fault.says}"
        count = len(self.receipts)
        if not count:
            return "There is no receipt yet."
        outcomes = f"{count} outcomes" if count != 1 else "one outcome"
        held = (
            f"{outcomes} and the closing record"
            if self.closed
            else f"{outcomes}, and the study is not closed"
        )
        holds = "Everything holds" if self.closed else "Everything holds so far"
        if self.unchecked:
            what = " and ".join(check.name for check in self.unchecked)
            holds = f"{holds} that can be checked here (not: {what})"
        return f"{holds}: {held}; {sums_checked(self.unverified, count)}."


def sums_checked(unverified: Sequence[int], count: int) -> str:
    """Which of ``count`` sums the hospitals checked, in words."""
    if not unverified:
        return "the hospitals checked every sum"
    if len(unverified) == count:
        return "the hospitals checked no sum, so each is the committee's word alone"
    return f"the hospitals did not check the sum of {rounds(unverified)}, which is the committee's word alone"


def rounds(numbers: Sequence[int]) -> str:
    """Round numbers in words, consecutive ones together: "rounds 1-3, 7"."""
    runs = groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    spans = [[number for _, number in run] for _, run in runs]
    listed = ", ".join(str(span[0]) if len(span) == 1 else f"{span[0]}-{span[-1]}" for span in spans)
    return f"round {listed}" if len(numbers) == 1 else f"rounds {listed}"


class BrokenError(SecureFLError):
    """A check that does not hold. ``name`` says which."""

    def __init__(self, name: str, sentence: str) -> None:
        super().__init__(sentence)
        self.name = name


@contextmanager
def checking(name: str) -> Iterator[None]:
    """Turn what is wrong inside into a ``BrokenError`` of that name."""
    try:
        yield
    except BrokenError:
        raise
    except (ProtocolError, SecureFLError) as error:
        raise BrokenError(name, str(error)) from error
    except OSError as error:
        sentence = f"{error.filename} cannot be read: {(error.strerror or 'unknown').lower()}."
        raise BrokenError(name, sentence) from error


def receipt_of(signed: SignedOutcome, signers: Mapping[str, bool], sum_check: SumCheck) -> Receipt:
    """What a signed outcome says."""
    outcome = signed.outcome
    return Receipt(
        round=outcome.round,
        attempt=outcome.context.attempt,
        committee=list(outcome.context.parties),
        cohort=list(outcome.frozen.cohort),
        included=outcome.included,
        absent=outcome.absent,
        excluded=sorted(outcome.excluded),
        digest=outcome.digest().hex(),
        signers=signers,
        sum_check=sum_check,
    )


def signers_of(
    record: Record, names: Sequence[str], signatures: Sequence[bytes], keys: Mapping[str, bytes]
) -> dict[str, bool]:
    """Whether each of these parties' signatures, in their order, is by its pinned key."""
    given = dict(zip(names, signatures, strict=False))
    return {name: name in keys and _verifies(record, keys[name], given.get(name, b"")) for name in names}


def _verifies(record: Record, key: bytes, signature: bytes) -> bool:
    try:
        check_signature(record, key, signature)
    except SignatureError:
        return False
    return True
