"""Watches a run from outside: evaluates each model, times each round, counts each byte, and writes the history."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from protocols.chain import SignedOutcome
from securefl.engines.link import Reply
from securefl.plaintext import Twin
from securefl.roles.effects import RoundDone, RoundVerified
from securefl.roles.messages import Message, SignedContribution
from securefl.roles.replica import Replica
from securefl.run_folder import RunFolder
from securefl.world import World

Line = dict[str, Any]


class Watch:
    """Collects one line of history a round.

    Args:
        run: its folder.
        world: evaluates models, in a simulation.
        show: takes each finished line.
        warn: takes a sentence that the user should read.
    """

    def __init__(
        self, run: RunFolder, world: World, show: Callable[[Line], None], warn: Callable[[str], None]
    ) -> None:
        self._run, self._world, self._show, self._warn = run, world, show, warn
        self._twin = Twin.recall(run, world) if wants_plaintext(world) else None
        self._begun = time.perf_counter()
        self._training: dict[str, float] = defaultdict(float)
        self._uploads: dict[str, int] = {}
        self._contributions: dict[str, int] = {}

    def exchanged(self, worker: str, member: str, message: Message, reply: Reply, size: int) -> None:
        """See one exchange with a member; called from the mailboxes' threads, one at a time for each worker."""
        self._training[worker] += reply.training_seconds
        for answer in reply.messages:
            if answer.startswith(_CONTRIBUTION):
                # What else goes up with it depends on the engine.
                self._uploads[member], self._contributions[member] = size, len(answer)

    def round_done(self, done: RoundDone, replica: Replica) -> None:
        """Write the line of a settled round."""
        outcome = done.settled.signed.outcome
        opened = time.perf_counter()
        scored = evaluated(self._world, replica, outcome.round)
        self._twin = followed(self._twin, self._run, self._world, done.settled.signed, replica)
        ended = time.perf_counter()
        # The busiest process's training is what the round cannot be faster than; until the sum is open, all else is
        # aggregation. A hospital says itself how long it trained, and may say too much.
        training = min(max(self._training.values(), default=0.0), opened - self._begun)
        uploads = [self._uploads[h] for h in outcome.included if h in self._uploads]
        contributions = {h: self._contributions[h] for h in outcome.included if h in self._contributions}
        line = {
            **scored,
            "attempt": outcome.context.attempt,
            "included": outcome.included,
            "absent": reasons(done.absent),
            "seconds": round(ended - self._begun, 4),
            "training_seconds": round(training, 4),
            "aggregation_seconds": round(opened - self._begun - training, 4),
            "evaluation_seconds": round(ended - opened, 4),
            "upload_bytes": sum(uploads) // len(uploads) if uploads else None,
            # Of a round that a resumed run ended, some came before.
            "contribution_bytes": contributions if len(contributions) == len(outcome.included) else None,
        }
        self._run.append_history(line)
        self._show(line)
        self._training.clear()
        self._uploads.clear()
        self._contributions.clear()
        self._begun = ended

    def round_verified(self, done: RoundVerified) -> None:
        """Say so if a sum was not verified; the receipts say the same."""
        if done.missing:
            self._warn(f"The sum of round {done.round} is unverified: {', '.join(done.missing)}.")


_CONTRIBUTION = SignedContribution.prefix()


def evaluated(world: World, replica: Replica, round_: int) -> Line:
    """The beginning of a history line: the round, and how good the model is after it."""
    score = world.score(replica.state.model, replica.statistics) if round_ > 0 else None
    return {
        "round": round_,
        "accuracy": score.accuracy if score else None,
        "loss": score.loss if score else None,
    }


def reasons(absent: Mapping[str, tuple[str, str]]) -> dict[str, dict[str, str]]:
    """Why hospitals were not in a sum, as it stands in the history."""
    return {h: {"reason": reason, "explanation": text} for h, (reason, text) in absent.items()}


def wants_plaintext(world: World) -> bool:
    """Whether the study asks for the comparison with plain addition."""
    return "plaintext" in world.study.settings.baselines


def followed(
    twin: Twin | None, run: RunFolder, world: World, signed: SignedOutcome, replica: Replica
) -> Twin | None:
    """The twin after a settled round, kept on disk."""
    if twin is None or signed.outcome.round == 0:
        return twin
    after = twin.follow(run, world, signed.outcome.included, signed.outcome.round, replica.statistics)
    if after is not twin:
        after.keep(run)
    return after


def mended(run: RunFolder, world: World) -> tuple[Replica, list[Line]]:
    """After a crash: follow the receipts again, and complete the history by them.

    Returns:
        The replica after all outcomes on disk, and one line for each of them. A line that the crash swallowed is made
        anew, without its timings.
    """
    known = {line["round"]: line for line in run.history()}
    replica, lines = world.start(), []
    twin = Twin.recall(run, world) if wants_plaintext(world) else None
    for signed in run.outcomes():
        round_ = signed.outcome.round
        replica = world.follow(replica, run.settled(round_))
        # At most the last round is missing: its integers are still where the hospitals left them.
        twin = followed(twin, run, world, signed, replica)
        timings = {
            "seconds": None,
            "training_seconds": None,
            "aggregation_seconds": None,
            "upload_bytes": None,
            "contribution_bytes": None,
        }
        lines.append(
            known.get(round_)
            or {
                **evaluated(world, replica, round_),
                "attempt": signed.outcome.context.attempt,
                "included": signed.outcome.included,
                "absent": reasons({h: (why, "") for h, why in signed.outcome.absent.items()}),
                **timings,
            }
        )
    return replica, lines
