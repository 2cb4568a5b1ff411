"""The committee's programs: open the sum of shares, and check norms. CrypTen does both.

Adversary: semi-honest, up to P-1 of the P parties together, with anyone else; they follow the program. The channel
    between two honest parties is private and authenticated (:mod:`protocols.mesh`).
Promise: the opening shares that leave an honest party are uniform but for the sum that is opened (they are masked by
    :mod:`protocols.zero_sharing`), so the parties learn the sum and nothing else about honest parties' shares. The
    sum is exact, bit for bit. Of the updates that are checked they learn one bit each
    (:mod:`protocols.norm_program`), as long as the dealer works with none of them (:mod:`protocols.dealer`). Nothing
    secret comes from torch's generator, which CrypTen is kept from while anyone in the process is in a committee
    (:func:`protocols.crypten_repairs.guarded_randomness`). Nothing is promised against a party that sends a wrong
    share.
Source: CrypTen (Knott et al. 2021), section 4.2 and appendix A, additive sharing over Z_2^64. A share modulo 2^w
    enters that ring as x 2^(64-w): sums in Z_2^64 are then 2^(64-w) times the sum modulo 2^w, and an arithmetic shift
    back gives the signed sum. One such factor only, never a product of two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protocols.canonical import encode
from protocols.crypten_repairs import guarded_randomness, import_crypten
from protocols.dealer import DealerLink, DealtTuples
from protocols.errors import CommitteeError, EncodingError
from protocols.mesh_group import Peers
from protocols.norm_program import norm_verdicts
from protocols.prg import RingVector, ring_dtype
from protocols.zero_sharing import PairwiseKeys, zero_bits, zero_share

if TYPE_CHECKING:
    from protocols.channel import MeshCommunicator
    from protocols.norm_bounds import NormCheck
    from protocols.projection import Projections

OpeningShare = NDArray[np.uint64]
"""(D,) uint64: a party's masked share of 2^(64-w) times the sum."""


class Committee:
    """One party's end of the committee. Make it with :meth:`join`, end it with :meth:`leave` (or use ``with``)."""

    def __init__(
        self,
        keys: PairwiseKeys,
        communicator: MeshCommunicator,
        membership: ExitStack,
        tuples: DealtTuples | None = None,
    ) -> None:
        self._keys = keys
        self._communicator = communicator
        self._membership = membership
        self._tuples = tuples
        self._zeros_drawn = 0
        # Where CrypTen's replaced parts look for this party's randomness.
        communicator.draw_zero = lambda size: self._draw_zero(zero_share, size)
        communicator.draw_zero_bits = lambda size: self._draw_zero(zero_bits, size)
        communicator.draw_tuple = None if tuples is None else tuples.draw

    @classmethod
    def join(cls, peers: Peers, dealer: DealerLink | None = None) -> Committee:
        """Form the committee over a connected mesh. Collective.

        From here to :meth:`leave`, CrypTen in this process has no random generator of its own.

        Args:
            peers: the parties: a mesh, or a group of one that has a dealer as well.
            dealer: where the dealer is, for :meth:`check_norms`. It serves one committee for each session of the
                mesh: connect anew before every join.

        Raises:
            ChannelError: a peer or the dealer did not answer in time, or out of step; connect the mesh anew, then join
                again.
            CommitteeError: a peer is in another session.
        """
        import_crypten()
        from protocols.channel import MeshCommunicator  # derives from CrypTen's class, hence not before

        with ExitStack() as membership:
            membership.enter_context(guarded_randomness())
            keys = PairwiseKeys.agree(peers)
            tuples = None if dealer is None else DealtTuples.open(dealer, keys.session_id)
            return cls(keys, MeshCommunicator(peers), membership.pop_all(), tuples)

    @property
    def session_id(self) -> bytes:
        """32 public bytes, the same at all parties. Prepared shares of different ids must not be opened together."""
        return self._keys.session_id

    @property
    def sent_bytes(self) -> int:
        """What this party has sent in CrypTen's name since it joined, without framing."""
        return int(self._communicator.comm_bytes)

    @property
    def rank(self) -> int:
        """This party, 0 .. P-1."""
        return self._keys.rank

    @contextmanager
    def active(self, context: bytes) -> Iterator[Any]:
        """For the length of the block, CrypTen in this thread works in this committee; gives the module.

        Args:
            context: study, round and attempt; equal at all parties.

        Raises:
            CommitteeError: the committee was left.
        """
        if self._membership is _LEFT:
            raise CommitteeError("This committee was left: join a new one.")
        with self._communicator.active(context):
            yield import_crypten()

    def prepare(self, share_sum: RingVector, context: bytes) -> OpeningShare:
        """This party's opening share, to be kept durably before :meth:`open`. Local: nothing is sent.

        Args:
            share_sum: (D,) the party's share of the sum, uint16, uint32 or uint64, D at least 1.
            context: study, round and attempt; equal at all parties and used once in a session, since two openings
                under one mask would reveal the difference of two shares.

        Returns:
            (D,) uint64.

        Raises:
            CommitteeError: the context was used before, or the committee was left.
            EncodingError: not a vector of ring elements.
        """
        width = 8 * share_sum.dtype.itemsize
        if share_sum.ndim != 1 or share_sum.size < 1 or share_sum.dtype != ring_dtype(width):
            raise EncodingError(
                f"A share of the sum is a vector over Z_2^w, not {share_sum.dtype}{share_sum.shape}."
            )
        with self.active(context):
            zero = zero_share(self._keys, encode(["opening", context]), share_sum.size)
            return import_share(share_sum, zero)

    def open(self, opening_share: OpeningShare, width: int, context: bytes) -> NDArray[np.int64]:
        """Reveal the sum to all parties. Collective. The same bytes may be opened again, in a later session too.

        Args:
            opening_share: (D,) uint64, from :meth:`prepare`; all parties' from one session.
            width: w, the bits of the ring that the shares were in: 16, 32 or 64.
            context: study, round and attempt; equal at all parties.

        Returns:
            (D,) int64: the signed sum, in [-2^(w-1), 2^(w-1)).

        Raises:
            ChannelError: a peer did not answer in time, or out of step; connect the mesh anew, join, open again.
            CommitteeError: the shares do not belong together, or the committee was left.
            EncodingError: not an opening share.
        """
        with self.active(context):
            return reveal_sum(opening_share, width)

    def check_norms(self, projections: Projections, check: NormCheck, context: bytes) -> list[bool]:
        """Which hospitals' updates are short enough. Collective; reveals these bits and nothing else.

        Args:
            projections: (K, m) uint16, uint32 or uint64: this party's shares of each hospital's projections.
            check: the same at all parties.
            context: study, round, attempt and list of hospitals; equal at all parties.

        Returns:
            (K,) bool in the order of the rows, the same at all parties.

        Raises:
            ChannelError: a peer or the dealer did not answer in time, or out of step; connect the mesh anew and join.
            CommitteeError: there is no dealer, it refuses, or the committee was left.
            EncodingError: not shares of such projections.
        """
        if self._tuples is None:
            raise CommitteeError(
                "A norm check needs a dealer's randomness: join the committee with its dealer."
            )
        with self.active(context):
            return norm_verdicts(projections, check)

    def leave(self) -> None:
        """Give the keys up, also before joining anew after a failure. The mesh stays open. May be called twice."""
        membership, self._membership = self._membership, _LEFT
        membership.close()

    def _draw_zero(
        self, draw: Callable[[PairwiseKeys, bytes, int], NDArray[np.uint64]], size: int
    ) -> NDArray[np.int64]:
        # For CrypTen's own calls; the parties run the same program, so that their counters agree.
        self._zeros_drawn += 1
        context = encode(["crypten", self._communicator.context, self._zeros_drawn])
        return draw(self._keys, context, size).view(np.int64)

    def __enter__(self) -> Committee:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()


_LEFT = ExitStack()


def import_share(share_sum: RingVector, zero: NDArray[np.uint64]) -> OpeningShare:
    """x 2^(64-w) plus a share of zero, added by CrypTen. Local, over whichever communicator CrypTen has.

    Args:
        share_sum: (D,) over Z_2^w.
        zero: (D,) this party's share of zero over Z_2^64.
    """
    import torch

    shared = import_crypten().mpc.primitives.ArithmeticSharedTensor
    shift = np.uint64(64 - 8 * share_sum.dtype.itemsize)
    lifted = share_sum.astype(np.uint64) << shift
    total = shared.from_shares(torch.from_numpy(lifted.view(np.int64)), precision=0)
    total += shared.from_shares(torch.from_numpy(zero.view(np.int64)), precision=0)
    masked: OpeningShare = total.share.numpy().view(np.uint64)
    return masked


def reveal_sum(opening_share: OpeningShare, width: int) -> NDArray[np.int64]:
    """Open through CrypTen and shift back. Collective, over whichever communicator CrypTen has.

    Raises:
        CommitteeError: the sum is not a multiple of 2^(64-w): some share is of another session, or was changed.
        EncodingError: not an opening share.
    """
    import torch

    ring_dtype(width)
    if opening_share.ndim != 1 or opening_share.size < 1 or opening_share.dtype != np.uint64:
        raise EncodingError(
            f"An opening share is a vector over Z_2^64, not {opening_share.dtype}{opening_share.shape}."
        )
    shared = import_crypten().mpc.primitives.ArithmeticSharedTensor
    # A copy where the bytes were read from disk: torch wants memory that it may write to.
    share = torch.from_numpy(np.require(opening_share, requirements=["W", "C"]).view(np.int64))
    total: NDArray[np.int64] = shared.from_shares(share, precision=0).reveal().numpy()
    shift = 64 - width
    if shift and np.any(total & np.int64((1 << shift) - 1)):
        raise CommitteeError("The opening shares do not belong together: prepare them anew in one session.")
    return total >> np.int64(shift)
