"""What can be said about a study before it runs: whether it can, who will see what, and how many bytes will move."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from protocols.envelope import OVERHEAD_BYTES
from protocols.norm_program import sent_bytes
from protocols.prg import SEED_BYTES
from securefl import consortium as members
from securefl.errors import StudyError
from securefl.plain_text import line
from securefl.roles.terms import UPDATE, Terms
from securefl.study import Study

if TYPE_CHECKING:
    from rich.table import Table

    from securefl.consortium import Consortium
    from securefl.study.schema import StudySettings

_SIGNED_BYTES = 400
"""Names, digests, lengths and the signature of a contribution, about."""
_CHECK_BYTES = 1100
"""Coins with contributions, and answers with signatures, that one hospital is sent of each included one, about."""
SLOW = 0.1
"""A server's learning rate at which the sums of two rounds are nearly of one model."""


def check_study(path: Path) -> list[str]:
    """Load settings, members, records and model, and return what was found, a line each.

    Raises:
        SecureFLError: the first thing that would keep the study from running.
    """
    from securefl.data import input_shape_and_classes
    from securefl.training.private_model import check_private_model
    from securefl.world import World

    study = Study.load(path)
    terms = Terms.of(study, members_of(study))
    world = World.of(study, terms)
    if terms.private is not None:
        settings = study.settings
        shape, _ = input_shape_and_classes(settings.data, study.folder, list(terms.hospitals), settings.seed)
        check_private_model(world.model, settings, shape)
    encoding = terms.update
    lines = [
        f"Study: {study.settings.name} ({len(study.files)} files, "
        f"{'a simulation' if study.simulation else 'no simulation'})",
        f"Members: {len(terms.hospitals)} hospitals, {len(terms.parties)} parties, "
        f"at least {terms.minimum} hospitals in a sum, at most {terms.collusion_bound} colluding parties",
        f"Model: {world.layout.trainable_size} parameters, {world.layout.size - world.layout.trainable_size} buffers",
        *_norm_lines(terms, world.layout.size),
        *_privacy_lines(terms, world.layout.size),
        *(f"Warning: {warning}" for warning in cohort_warnings(study.settings, len(terms.hospitals))),
        f"Encoding: {encoding.width} bits, steps of {encoding.resolution:.3g}, "
        f"up to {encoding.limit * encoding.resolution:.4g} a coordinate",
    ]
    for hospital, data in world.data.items():
        lines.append(f"Records of {hospital}: {len(data.train)} for training, {len(data.test)} held out")
    lines.append(
        f"Rounds: {terms.rounds}, after {'a roll call' if terms.private else 'one for the statistics'}"
    )
    return [*lines, "This study can run."]


def _norm_lines(terms: Terms, size: int) -> list[str]:
    check = terms.norm_check(UPDATE, size)
    if check is None:
        setting = "privacy.check_norms" if terms.private else "aggregation.norm_bound"
        return [f"Norms: not checked (set {setting} to check them)"]
    exact = "exactly" if check.direct else f"by {check.rows} random rows"
    bound = math.ldexp(check.bound, -terms.update.fraction_bits)
    return [f"Norms: at most {bound:g}, checked {exact}, by a committee with a dealer"]


def _privacy_lines(terms: Terms, size: int) -> list[str]:
    """Epsilon for every number of colluding parties, the target's first among equals."""
    if terms.private is None:
        return ["Privacy: none, so the released model may tell about records (add [privacy] to bound that)"]
    from securefl.privacy import epsilon_table
    from securefl.report.words import collusion

    private, s = terms.private, terms.private.settings
    table = epsilon_table(private.mechanism(size), private.attempts, s.delta, private.refusal_delta)
    reached = table[s.colluding_parties][1].pld
    if s.epsilon is not None and reached > s.epsilon:
        raise StudyError(
            f"The noise stands in steps so coarse that epsilon is {reached:.6g} and not {s.epsilon:g}: set "
            "aggregation.width = 32 or 64."
        )
    return [
        f"Privacy of each {s.unit}: noise multiplier {private.multiplier:g}, {private.attempts} attempts, "
        f"delta {s.delta:g}",
        *(
            f"  epsilon {epsilon.pld:.3f} (by RDP {epsilon.rdp:.3f}) if {collusion(colluders)}"
            + (", the number the study allows for" if colluders == s.colluding_parties else "")
            for colluders, epsilon in table
        ),
    ]


def cohort_warnings(settings: StudySettings, hospitals: int) -> list[str]:
    """What the sums give away of a hospital that may be missing from one of them, a sentence each; often nothing.

    hospitals: how many the study has.
    """
    least = settings.cohort.minimum_hospitals
    if settings.privacy is not None or least >= hospitals:
        return []
    found = [
        f"A sum may be over {least} of {hospitals} hospitals: if one is missing in one round and there in the next, "
        f"the difference of the two sums is nearly its update; set cohort.minimum_hospitals = {hospitals}, with which "
        "a run stops while one is away, or add [privacy]."
    ]
    if settings.server.learning_rate <= SLOW:
        found.append(
            f"With server.learning_rate = {settings.server.learning_rate:g} the model hardly moves from round to "
            "round, which makes that difference nearly exact."
        )
    return found


def members_of(study: Study) -> Consortium:
    """The study's consortium; for a simulation, members with keys that were made up just now and are thrown away."""
    settings = study.settings.consortium
    if settings.file is not None:
        return members.load(study.folder / settings.file)
    import tempfile

    with tempfile.TemporaryDirectory(prefix="securefl-") as folder:
        parties = [f"party-{i}" for i in range(1, settings.parties + 1)]
        return members.create(Path(folder), settings.hospital_names(), parties, made_up_dealer(study))


def made_up_dealer(study: Study) -> str | None:
    """The name of a simulation's dealer, which only a study with a norm check has."""
    return "dealer" if study.settings.checks_norms else None


def plan_tables(path: Path) -> list[Table]:
    """Two tables: who sees what, and what moves."""
    from rich.table import Table
    from rich.text import Text

    from securefl.data import input_shape_and_classes
    from securefl.models import Layout, build_model
    from securefl.training.trainer import statistics_size

    study = Study.load(path)
    terms, s = Terms.of(study, members_of(study)), study.settings
    shape, classes = input_shape_and_classes(s.data, study.folder, list(terms.hospitals), s.seed)
    size = Layout.of(build_model(s.model, study.folder, shape, classes, s.seed)).size
    # As Text, in which a name in brackets is no markup, here and in the caption.
    title = Text(f"{line(s.name)}: who will see what", "table.title")
    seen = Table("who", "sees", "never sees", title=title, show_lines=True)
    parties, hospitals = len(terms.parties), len(terms.hospitals)
    for row in _visibility(study, terms):
        seen.add_row(*row)
    seen.caption = Text("\n".join(f"Warning: {line(warning)}" for warning in cohort_warnings(s, hospitals)))
    seen.caption_justify = "left"
    moved = Table("what", "from", "to", "bytes", "times", title="What will move")
    update = upload_bytes(size, terms.update.width, parties)
    statistics = upload_bytes(statistics_size(shape, s.data.standardise), terms.statistics.width, parties)
    total = size * s.aggregation.width // 8
    first = "roll call" if terms.private else "statistics"
    moved.add_row(f"{first}, sealed shares", "each hospital", "parties", f"{statistics:,}", "1")
    moved.add_row("update, sealed shares", "each hospital", "parties", f"{update:,}", f"{terms.rounds}")
    moved.add_row(
        "opening shares",
        "each party",
        f"{parties - 1} parties",
        f"{8 * size * (parties - 1):,}",
        f"{terms.rounds}",
    )
    moved.add_row("the opened sum", "coordinator", f"{hospitals} hospitals", f"{total:,}", f"{terms.rounds}")
    check = terms.norm_check(UPDATE, size)
    if check is not None:
        moved.add_row(
            "norm check",
            "each party",
            f"{parties - 1} parties",
            f"{sent_bytes(check, hospitals, parties):,}",
            f"{terms.rounds}",
        )
    if terms.checks_sums:
        moved.add_row(
            "check of the sum",
            "coordinator",
            "each hospital",
            f"about {_CHECK_BYTES * hospitals:,}",
            f"{terms.rounds + 1}",
        )
    moved.caption = (
        f"{size:,} coordinates of {s.aggregation.width} bits; an update is {update / (4 * size):.3f} times its float32 "
        f"size. All rounds: {hospitals * (update * terms.rounds + statistics):,} bytes go up."
    )
    return [seen, moved]


def upload_bytes(size: int, width: int, parties: int) -> int:
    """About what one hospital sends in one round: one explicit share, P - 1 seeds, all sealed."""
    return (
        size * width // 8 + (parties - 1) * SEED_BYTES + parties * (OVERHEAD_BYTES + 1 + 34) + _SIGNED_BYTES
    )


def _visibility(study: Study, terms: Terms) -> list[tuple[str, str, str]]:
    parties, rounds = len(terms.parties), terms.rounds
    private = terms.private is not None
    noise, clear = (", with noise", ", or a sum without noise") if private else ("", "")
    rows = [
        (
            "hospital",
            f"its own records and update; each round's model, and sum{noise}",
            f"another hospital's update{clear}",
        ),
        (
            "party",
            f"one of {parties} shares of each update; each round's sum{noise}"
            + ("; its own part of the noise" if private else ""),
            f"an update{clear}, unless {terms.minimum_parties} parties collude; "
            f"a sum over fewer than {terms.minimum} hospitals",
        ),
        (
            "coordinator",
            f"sealed envelopes, message sizes, who takes part; each round's sum{noise}",
            f"a share in the clear{clear}",
        ),
        (
            "researcher",
            f"the final model and the sums of {rounds} rounds{noise}",
            f"records, updates{clear}",
        ),
    ]
    if terms.checks_norms:
        rows[1] = (
            rows[1][0],
            f"{rows[1][1]}; one bit of each hospital: within the norm bound or not",
            rows[1][2],
        )
        rows.append(("dealer", "how many random numbers the parties ask for", "anything of the data"))
    if study.simulation:
        rows.append(("this computer", "everything: the study is a simulation and pools its data", "-"))
    return rows
