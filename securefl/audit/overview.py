"""The whole audit in one screen: each claim holds if every attack on what ships fails and every mutant is caught."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from securefl.audit.registry import Claim, Mutant, Trial, try_mutant


@dataclass(frozen=True)
class Standing:
    """How a claim stands after its mutants were run.

    Attributes:
        trials: of its mutants.
    """

    claim: Claim
    trials: Sequence[Trial]

    @property
    def holds(self) -> bool:
        """Whether no attack on what ships succeeded, and there were attacks."""
        return bool(self.trials) and all(trial.caught.holds for trial in self.trials)

    @property
    def tested(self) -> bool:
        """Whether every mutant broke, so that the attacks mean something."""
        return all(trial.breaks.holds for trial in self.trials)


@dataclass(frozen=True)
class Overview:
    """What came of it, by theme."""

    themes: Mapping[str, Sequence[Standing]]

    @property
    def standings(self) -> list[Standing]:
        """All of them, in order."""
        return [standing for standings in self.themes.values() for standing in standings]

    @property
    def green(self) -> bool:
        """Whether every claim holds on what ships and every mutant is caught."""
        return all(standing.holds and standing.tested for standing in self.standings)


def run_all(
    themes: Mapping[str, Sequence[Claim]], mutants: Mapping[str, Mutant], done: Callable[[Trial], None]
) -> Overview:
    """Run every mutant of every claim.

    Args:
        done: is told of each trial, for a bar.
    """
    found: dict[str, list[Standing]] = {}
    for theme, claims in themes.items():
        found[theme] = []
        for claim in claims:
            trials = []
            for name in claim.mutants:
                trials.append(try_mutant(mutants[name]))
                done(trials[-1])
            found[theme].append(Standing(claim, trials))
    return Overview(found)


def screen(overview: Overview, seconds: float, height: int = 22, width: int = 79) -> str:
    """The summary, which fits into so many lines and columns."""
    standings = overview.standings
    mutants = sum(len(standing.trials) for standing in standings)
    lines = [f"{len(standings)} claims, {mutants} mutants, {seconds:.0f} s", ""]
    for theme, some in overview.themes.items():
        claims, trials = len(some), [trial for standing in some for trial in standing.trials]
        held = sum(standing.holds for standing in some)
        caught = sum(trial.holds for trial in trials)
        mark = "ok " if held == claims and caught == len(trials) else "BAD"
        lines.append(
            f"{mark} {theme:<28} {held:>2} of {claims:>2} claims hold, {caught:>2} of {len(trials):>2} mutants caught"
        )
    bad = [(s, trial) for s in standings for trial in s.trials if not trial.holds]
    lines.append("")
    room = height - len(lines) - 3
    for standing, trial in bad[: max(1, room // 2)]:
        finding = trial.caught if trial.breaks.holds else trial.breaks
        lines += [_cut(f"{trial.fault}: {trial.mutant.name} ({standing.claim.id})", width)]
        lines += [_cut(f"    {finding.sentence}", width)]
    if len(bad) > max(1, room // 2):
        lines.append(f"... and {len(bad) - max(1, room // 2)} more: `securefl audit --mutants` shows all.")
    verdict = "Every claim holds on what ships, and every mutant is caught."
    lines.append(
        verdict if overview.green else "NOT GREEN: a claim does not hold, or an attack shows nothing."
    )
    lines.append("`securefl audit claims` lists them, `securefl audit mutants` tells each attack.")
    return "\n".join(lines)


def matrix(overview: Overview) -> list[tuple[str, str, str, str, str]]:
    """A row a mutant: claim, mutant, what became of the naive protocol and of what ships, seconds."""
    return [
        (
            standing.claim.id,
            trial.mutant.name,
            "breaks" if trial.breaks.holds else "STANDS",
            ("withstands" if trial.caught.holds else "BREAKS") if trial.caught.shown else "not shown",
            f"{trial.seconds:.1f}",
        )
        for standing in overview.standings
        for trial in standing.trials
    ]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."
