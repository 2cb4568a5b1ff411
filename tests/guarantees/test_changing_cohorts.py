"""What two sums over different hospitals give away: nearly an update, unless every sum is over all of them.

No claim: this is the limit of ``no-two-sums-of-a-model``. A party opens one state of the training over one cohort, but
the next round is another state. The coordinator says that a hospital did not answer in it, and subtracts the sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from protocols.ring import from_bytes, signed
from securefl.audit import stage_cast
from securefl.audit.stage import Stage, staged
from securefl.audit.stage_cast import VICTIM
from securefl.errors import EngineError
from securefl.roles.messages import Announcement, Refusal, read_message
from securefl.roles.records import sum_name

FULL = 65536
"""A batch larger than any hospital."""


@dataclass
class KeptAway:
    """The victim's seat as the coordinator shows it to the others: it does not answer in round 2."""

    answers: object

    def answer(self, data: bytes) -> list[bytes]:
        message = read_message(data)
        if isinstance(message, Announcement) and message.context.round == 2:
            silent = Refusal(
                member=VICTIM,
                about=Announcement.kind,
                hospital="",
                reason="no-answer",
                explanation="It is away.",
            )
            return [silent.to_bytes()]
        return self.answers.answer(data)


def study(batch: int, rate: float, minimum: int) -> str:
    """The audit's small study with these settings."""
    text = stage_cast._STUDY.replace("minimum_hospitals = 3", f"minimum_hospitals = {minimum}")
    training = f"learning_rate = 0.1\nbatch_size = {batch}\n[server]\nlearning_rate = {rate}\n"
    return text.replace("learning_rate = 0.1\n", training)


def sum_of(stage: Stage, round_: int) -> np.ndarray:
    """What a round opened, as integers."""
    context = stage.outcomes()[round_].outcome.context
    data = stage.store("coordinator")[sum_name(round_)]
    return signed(from_bytes(data, context.width, context.size))


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(x, y)[0, 1])


@pytest.mark.parametrize(
    ("batch", "rate", "least", "most"),
    [(32, 1.0, 0.92, 0.94), (FULL, 1.0, 0.88, 0.91), (FULL, 0.1, 0.998, 0.999), (FULL, 1e-3, 0.9999998, 1.0)],
    ids=["defaults", "full-batches", "slow-server", "slower-server"],
)
def test_the_difference_of_two_rounds_sums_is_nearly_the_update_of_who_was_missing_in_one(
    monkeypatch: pytest.MonkeyPatch, batch: int, rate: float, least: float, most: float
) -> None:
    monkeypatch.setattr(stage_cast, "_STUDY", study(batch, rate, minimum=3))
    with staged(rounds=2) as stage:
        stage.seats[VICTIM] = KeptAway(stage.seats[VICTIM])
        stage.play()
        assert stage.finished
        first, second = (signed_outcome.outcome for signed_outcome in stage.outcomes()[1:])
        assert set(first.included) - set(second.included) == {VICTIM}
        update = signed(stage.update(VICTIM))
        found = correlation(sum_of(stage, 1) - sum_of(stage, 2), update)
        assert least < found <= most
        # The sum alone, which everybody is meant to see, says less of it.
        assert correlation(sum_of(stage, 1), update) < found


def test_where_all_hospitals_are_wanted_there_is_no_second_sum_to_subtract(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stage_cast, "_STUDY", study(FULL, 1e-3, minimum=4))
    with staged(rounds=2) as stage:
        stage.seats[VICTIM] = KeptAway(stage.seats[VICTIM])
        with pytest.raises(EngineError, match="Round 2 has 3 contributions and needs 4"):
            stage.play()
        assert len(stage.outcomes()) == 2  # the statistics, and round 1 over everyone
        assert VICTIM in stage.outcomes()[1].outcome.included
