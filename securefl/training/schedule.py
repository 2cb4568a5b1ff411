"""The learning rate over the rounds of a study."""

from __future__ import annotations

import math

from securefl.study.training_settings import Schedule


def schedule_factor(schedule: Schedule, round_: int, rounds: int) -> float:
    """The factor on the learning rate in a round.

    Args:
        round_: 1 to ``rounds``.
        rounds: all rounds of the study.

    Returns:
        0 to 1. Warm-up rises linearly to 1 over its rounds; the schedule proper starts after it.
    """
    if round_ <= schedule.warmup_rounds:
        return round_ / (schedule.warmup_rounds + 1)
    done = round_ - schedule.warmup_rounds - 1
    progress = done / max(1, rounds - schedule.warmup_rounds - 1)
    match schedule.kind:
        case "constant":
            return 1.0
        case "cosine":
            return (
                schedule.final_factor + (1 - schedule.final_factor) * (1 + math.cos(math.pi * progress)) / 2
            )
        case "linear":
            return 1 - (1 - schedule.final_factor) * progress
        case "step":
            return float(schedule.step_factor ** (done // schedule.step_rounds))
