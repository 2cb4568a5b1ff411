"""The dealer: correlated randomness for the committee, from seeds, by somebody who takes part in nothing else.

Adversary: semi-honest parties, any P-1 of them; a curious dealer that works with none of them; a dealer that lies.
    The dealer and every party share a private, authenticated channel (:mod:`protocols.mesh`).
Promise: the dealer receives a session's public id and requests (a number, a kind, a size), nothing else; it learns no
    share, no opening and no result. Towards any P-1 parties a tuple's honest share is uniform but for the relation of
    the tuple. No tuple is used twice: each has its number, and a session its own seeds.
    **A dealer that works with one party** knows every mask and sees all that is opened under them. It learns what
    enters the program: in the norm check the projections, so m linear functions of each hospital's update for every
    attempt, and the update itself where it is so short that it is checked directly. **A dealer that lies** makes
    results wrong: it lets an offender pass or excludes an honest hospital. A verdict is public, so by lying it may
    also turn one hospital's verdict into one bit of its own choice about that hospital's projections. A dealer that
    stops ends the check. None of them can touch the opened sum, which uses no randomness of the dealer's.
Source: Beaver 1991, "Efficient multiparty protocols using circuit randomization" (triples); Beaver 1997,
    "Commodity-based cryptography" (a server that deals them). From seeds as in CrypTen 0.4.1,
    ``mpc/provider/ttp_provider.py``: every party expands its shares from a seed of the dealer's, and one party is sent
    the correction that makes the dependent part true.

    binary-triple   (a, b, c)   c = a & b       words, all shared by XOR
    square          (r, s)      s = r r         mod 2^64, both shared by sum
    bit             (b, t)      t = b in {0,1}  b shared by XOR, t by sum mod 2^64
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from protocols.canonical import DIGEST_BYTES, Record, encode
from protocols.errors import ChannelError, CommitteeError, EncodingError, ProtocolError
from protocols.mesh_group import Peers
from protocols.mesh_session import Mesh
from protocols.prg import SEED_BYTES, Stream

log = logging.getLogger(__name__)

MAX_TUPLE_SIZE = 2**24
"""Most words in one tuple: 128 MiB a part."""
IDLE_SECONDS = 30 * 86400.0
"""Longest wait for a party's next request. A session that breaks ends the wait at once."""
CORRECTED_RANK = 0
"""The party that the corrections are sent to."""
_PAUSE_SECONDS = 0.1
_LABEL = "dealer-tuple"
_SESSION, _SEED, _REQUEST, _CORRECTION = (
    b"dealer/session",
    b"dealer/seed",
    b"dealer/request",
    b"dealer/correction",
)
_MAX_REQUEST_BYTES = 256
_REFUSED = b""

Kind = Literal["binary-triple", "square", "bit"]
Words = NDArray[np.uint64]


@dataclass(frozen=True)
class _Rule:
    """How a kind of tuple is made.

    Attributes:
        free: how many parts are uniform; the last part depends on them.
        mask: the bits that a free part has.
        join: shares of a free part -> the part.
        depends: the free parts -> the dependent part.
        take: the dependent part without another's share of it.
    """

    free: int
    mask: np.uint64
    join: Callable[[Any, Any], Any]
    depends: Callable[..., Words]
    take: Callable[[Any, Any], Any]


_WORD, _BIT = np.uint64(2**64 - 1), np.uint64(1)
_RULES: dict[str, _Rule] = {
    "binary-triple": _Rule(2, _WORD, np.bitwise_xor, np.bitwise_and, np.bitwise_xor),
    "square": _Rule(1, _WORD, np.add, np.square, np.subtract),
    "bit": _Rule(1, _BIT, np.bitwise_xor, np.copy, np.subtract),
}


class TupleRequest(Record):
    """One tuple. Everything that the dealer is ever told of a program."""

    kind: ClassVar[str] = "tuple-request"
    number: int = Field(ge=1, lt=2**63)
    of: Kind
    size: int = Field(ge=1, le=MAX_TUPLE_SIZE)


@dataclass(frozen=True)
class DealerLink:
    """Where a party finds its dealer.

    Attributes:
        mesh: the session of the parties and the dealer, parties first.
        rank: the dealer's rank in it, P.
    """

    mesh: Peers
    rank: int


def shares_of(seed: bytes, session_id: bytes, request: TupleRequest, corrected: bool) -> list[Words]:
    """A party's shares, as far as they come from its seed: (size,) uint64 for each part.

    Args:
        seed: the 32 bytes that the dealer gave this party for this session.
        session_id: the session's public name.
        request: which tuple.
        corrected: this party is sent its share of the dependent part, which is left out here.
    """
    rule = _RULES[request.of]
    # The whole request is the context, so that two requests under one number would not share masks either.
    stream = Stream(seed, _LABEL, encode([session_id, request.body()]))
    parts = [stream.ring_vector(request.size, 64) & rule.mask for _ in range(rule.free)]
    return parts if corrected else [*parts, stream.ring_vector(request.size, 64)]


def correction(seeds: Sequence[bytes], session_id: bytes, request: TupleRequest) -> Words:
    """The share of the dependent part that makes the tuple true, for the party of rank 0: (size,) uint64.

    Args:
        seeds: (P,) of all parties, by rank.
        session_id: the session's public name.
        request: which tuple.
    """
    rule = _RULES[request.of]
    free: list[Words] = []
    others: list[Words] = []
    for rank, seed in enumerate(seeds):
        parts = shares_of(seed, session_id, request, rank == CORRECTED_RANK)
        others += parts[rule.free :]
        free = [rule.join(a, b) for a, b in zip(free, parts, strict=False)] if free else parts[: rule.free]
    result: Words = reduce(rule.take, others, rule.depends(*free))
    return result


class DealtTuples:
    """A party's end: the tuples of one session. All parties draw the same ones in the same order.

    Args:
        link: the dealer.
        seed: this party's 32 secret bytes.
        session_id: the session's public name.
    """

    def __init__(self, link: DealerLink, seed: bytes, session_id: bytes) -> None:
        self._link = link
        self._seed = seed
        self._session_id = session_id
        self._corrected = link.mesh.rank == CORRECTED_RANK
        self._number = 0

    @classmethod
    def open(cls, link: DealerLink, session_id: bytes) -> DealtTuples:
        """Begin a session with the dealer; once for every session of the mesh.

        Raises:
            ChannelError: the dealer did not answer in time; connect the mesh anew.
            CommitteeError: the dealer refuses, since the parties named different sessions.
        """
        link.mesh.send(link.rank, _SESSION, session_id)
        seed = link.mesh.receive(link.rank, _SEED, SEED_BYTES)
        if len(seed) != SEED_BYTES:
            raise CommitteeError(
                "The dealer refuses this session, the parties named different ones: form the committee anew."
            )
        return cls(link, seed, session_id)

    def draw(self, kind: Kind, size: int) -> list[NDArray[np.int64]]:
        """This party's shares of the next tuple.

        Args:
            kind: "binary-triple", "square" or "bit".
            size: words in a part, 1 to 2^24.

        Returns:
            (size,) int64 for each part, as listed at the head of this module.

        Raises:
            ChannelError: the dealer did not answer in time, or left.
            CommitteeError: there is no such tuple, or the dealer refuses.
        """
        if kind not in get_args(Kind) or not 1 <= size <= MAX_TUPLE_SIZE:
            raise CommitteeError(
                f"The dealer has no {kind} of {size} words, at most {MAX_TUPLE_SIZE}: check fewer hospitals at a time."
            )
        self._number += 1
        request = TupleRequest(number=self._number, of=kind, size=size)
        if self._corrected:
            # Sent before the own expansion, so that both ends work at the same time.
            sending = self._link.mesh.start_send(self._link.rank, _REQUEST, request.to_bytes())
        parts = shares_of(self._seed, self._session_id, request, self._corrected)
        if self._corrected:
            answer = self._link.mesh.receive(self._link.rank, _CORRECTION, 8 * size)
            sending.wait()
            if len(answer) != 8 * size:
                raise CommitteeError("The dealer refuses a request: form the committee anew.")
            parts.append(np.frombuffer(answer, dtype="<u8").astype(np.uint64))
        return [part.view(np.int64) for part in parts]


class Dealer:
    """The dealer itself. :meth:`serve` until :meth:`close`.

    Args:
        mesh: the parties' mesh with the dealer as its last member; not connected yet.

    Raises:
        CommitteeError: the dealer is not the last of at least three members.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._parties = range(mesh.world_size - 1)
        if mesh.rank != mesh.world_size - 1 or len(self._parties) < 2:
            raise CommitteeError(
                "A dealer is the last member of a mesh with two parties at least: check its rank."
            )
        self._mesh = mesh
        self._closed = threading.Event()

    def serve(self) -> None:
        """Serve one session after the other until closed, whatever happens to the parties."""
        while not self._closed.is_set():
            try:
                self.serve_session()
            except ProtocolError as error:
                log.info("Session ended. %s", error)
            self._closed.wait(_PAUSE_SECONDS)

    def serve_session(self) -> None:
        """Form one session with all parties and serve it until it breaks.

        Raises:
            ChannelError: how every session ends: a party left it, or did not come.
            CommitteeError: the parties named different sessions, or one asked for what is not given out.
        """
        self._mesh.connect()
        names = {p: self._mesh.receive(p, _SESSION, DIGEST_BYTES, IDLE_SECONDS) for p in self._parties}
        session_id = names[CORRECTED_RANK]
        if len(session_id) != DIGEST_BYTES or set(names.values()) != {session_id}:
            self._answer(dict.fromkeys(self._parties, _REFUSED), _SEED)
            raise CommitteeError(
                "The parties named different sessions: they have to form the committee anew."
            )
        seeds = [secrets.token_bytes(SEED_BYTES) for _ in self._parties]
        self._answer(dict(enumerate(seeds)), _SEED)
        number = 0
        while True:
            request = self._next_request(number)
            self._answer({CORRECTED_RANK: correction(seeds, session_id, request).tobytes()}, _CORRECTION)
            number = request.number

    def close(self) -> None:
        """End the service and the mesh. May be called from another thread, and twice."""
        self._closed.set()
        self._mesh.close()

    def _next_request(self, served: int) -> TupleRequest:
        data = self._mesh.receive(CORRECTED_RANK, _REQUEST, _MAX_REQUEST_BYTES, IDLE_SECONDS)
        try:
            request = TupleRequest.from_bytes(data)
            if request.number <= served:
                raise CommitteeError(f"Tuple {request.number} was asked for after tuple {served}.")
        except (EncodingError, CommitteeError) as error:
            self._answer({CORRECTED_RANK: _REFUSED}, _CORRECTION)
            raise CommitteeError("A party's request was refused: it has to join anew.") from error
        return request

    def _answer(self, answers: dict[int, bytes], tag: bytes) -> None:
        sendings = [self._mesh.start_send(party, tag, answer) for party, answer in answers.items()]
        failures = []
        for sending in sendings:
            try:
                sending.wait()
            except ChannelError as error:
                failures.append(error)
        if failures:
            raise failures[0]
