"""What a hospital pays for an attempt of a private round: one entry in its ledger, before its contribution leaves."""

from __future__ import annotations

from collections.abc import Callable

from protocols.contribution import RoundContext
from securefl.errors import RefusedError
from securefl.privacy.budget import Budget
from securefl.privacy.charge import LedgerError, Occasion
from securefl.privacy.ledger import PrivacyLedger
from securefl.roles.effects import Enter
from securefl.roles.private_terms import PrivateTerms


class Spending:
    """A hospital's ledger of one dataset, for one study.

    Args:
        ledger: over all studies on this dataset.
        private: the study's private terms.
        allowance: what the steward's permit allows the study now, asked at every attempt; None sets no limit.
    """

    def __init__(
        self,
        ledger: PrivacyLedger,
        private: PrivateTerms,
        allowance: Callable[[], Budget | None] = lambda: None,
    ) -> None:
        self._ledger, self._private, self._allowance = ledger, private, allowance
        s = private.settings
        self._promise = None if s.epsilon is None else Budget(epsilon=s.epsilon, delta=s.delta, unit=s.unit)

    def charge(self, context: RoundContext, announcement: bytes) -> Enter:
        """The entry for one attempt. It stands whether or not a sum of it is ever opened, and whoever is drawn.

        Raises:
            RefusedError: it would exceed the hospital's budget, the permit's allowance or the study's promise, or the
                ledger is damaged.
        """
        mechanism = self._private.mechanism(context.size)
        occasion = Occasion(context.study, context.round, context.attempt, announcement)
        extra = self._private.refusal_delta
        try:
            self._ledger.check(mechanism, occasion, self._promise, extra, self._allowance())
            return Enter(*self._ledger.enter(mechanism, occasion, extra))
        except LedgerError as error:
            raise RefusedError("damaged-ledger", str(error)) from error
