"""What each role stores, for how long, and how it is deleted: as the roles' code does it, beside what was found here.

Erasing a file unlinks it. It overwrites nothing: what that leaves on a disk is up to the file system and the disk's
encryption.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from securefl.consortium import Consortium
from securefl.run_folder import RunFolder


@dataclass(frozen=True)
class Rule:
    """One kind of file.

    Attributes:
        role: whose it is.
        places: paths within the run folder; * is anything, {hospital}, {party} and {dealer} are names.
        what: content, in words.
        kept: until when.
        personal: what it says about patients: "none", "aggregate", "records", or words.
        delete: how to delete it, and what is lost.
    """

    role: str
    places: Sequence[str]
    what: str
    kept: str
    personal: str
    delete: str


@dataclass(frozen=True)
class Kept:
    """A rule, and the files of this run folder that it covers: their number and bytes."""

    rule: Rule
    files: int
    size: int


_RECORD = "Needed to verify the run. Delete the run folder when the record need not be shown any more."

RULES = (
    Rule(
        "coordinator", ("receipts/receipt-*", "receipts/closing"),
        "each round's signed outcome: names, digests, signatures; the closing record",
        "for good", "none: names of hospitals, no record", _RECORD,
    ),
    Rule(
        "coordinator", ("receipts/sum-*",),
        "each round's opened sum", "for good",
        "sums over all hospitals in the round; without noise unless the study is private",
        "Needed to verify the run. Without them nobody can compute the model anew.",
    ),
    Rule(
        "coordinator", ("receipts/verification-*",),
        "the hospitals' coins and masked answers for each sum", "for good", "none: masked numbers", _RECORD,
    ),
    Rule(
        "coordinator", ("run.json", "history.jsonl", "summary.json", "report.html", "evidence.*", "stop", ".lock"),
        "settings of the run, figures, reports", "for good",
        "figures of held-out records, if the run was a simulation", "Delete at will; reports can be written again.",
    ),
    Rule(
        "coordinator", ("study/*", "consortium.toml"), "a copy of the study and of the members' public keys",
        "for good", "none", _RECORD,
    ),
    Rule(
        "coordinator", ("logs/*",), "standard error of the processes; no content of messages", "for good", "none",
        "Delete at will.",
    ),
    Rule(
        "researcher", ("model.safetensors",), "the released model", "for good",
        "may tell about records; how much stands under Privacy spent",
        "Copies that were handed out cannot be called back.",
    ),
    Rule(
        "party", ("homes/{party}/memory",), "the round that it waits for, digests, what it has signed",
        "overwritten each round; the last stays", "none", "Delete when the study is closed.",
    ),
    Rule(
        "party", ("homes/{party}/spool-*",), "a hospital's sealed part of its contribution",
        "until the round's outcome, the next attempt, or the closing",
        "sealed to a key that is in the party's memory alone, for one attempt",
        "Erased by itself. After a run that was stopped in a round it stays, and no key to it is left after a restart.",
    ),
    Rule(
        "party", ("homes/{party}/share",), "its share of one sum, in the clear",
        "until the next attempt or round begins, or the closing",
        "one share: uniform without those of all other parties", "Erased by itself.",
    ),
    Rule(
        "party", ("homes/{party}/receipt-*",), "its own copy of each receipt", "for good", "none",
        "Keep it: it is what a forged record is held against.",
    ),
    Rule(
        "party", ("homes/{party}.ledger/opened-*", "homes/{party}/ledger/opened-*"),
        "of which model it opened sums over which hospitals, over all studies", "for good", "none",
        "MUST BE KEPT as long as any of the hospitals takes part in studies: without it the party may open a second "
        "sum that differs by one hospital.",
    ),
    Rule(
        "hospital", ("homes/{hospital}/memory",), "the model after the last outcome, and the opened statistics",
        "overwritten each round; the last stays", "as the released model", "Delete when the study is closed.",
    ),
    Rule(
        "hospital", ("homes/{hospital}/layout",), "how many of the model's coordinates are parameters", "for good",
        "none", "Delete when the study is closed.",
    ),
    Rule(
        "hospital", ("homes/{hospital}/answer",), "its sealed contribution, to send the same again after a crash",
        "until the round's outcome", "sealed to the parties", "Erased by itself.",
    ),
    Rule(
        "hospital", ("homes/{hospital}/pledge-*",), "its own encoded update, in the clear",
        "until it has answered the check of the sum; otherwise two rounds. The last rounds' stay if they were not "
        "checked. Private studies keep none.",
        "computed from its own patients' records; protect it as these",
        "Erased by itself but for the last rounds' of a study whose checks did not finish: delete those by hand.",
    ),
    Rule(
        "hospital", ("homes/{hospital}/total-*",), "the sum that it checks",
        "until the check is finished; otherwise two rounds, as the pledge", "as the opened sum",
        "As the pledge.",
    ),
    Rule(
        "hospital", ("homes/{hospital}/revealed",), "the last two rounds' outcomes, its coins and answers",
        "overwritten each round; the last two stay", "none", "Delete when the study is closed.",
    ),
    Rule(
        "hospital", ("privacy/{hospital}/ledger/*", "privacy/{hospital}/budget.toml"),
        "its privacy ledger, what every attempt cost, over all studies; its budget",
        "for good, longer than any study", "none: settings of studies, no record",
        "MUST BE KEPT as long as the records are used, and backed up: without it, what was spent is forgotten.",
    ),
    Rule(
        "every member", ("keys/{hospital}/*", "keys/{party}/*", "keys/{dealer}/*"), "its private keys, mode 0600",
        "as long as it is a member", "none",
        "Hand each member its own and delete it where it was made. A deleted key cannot sign or open what was sealed "
        "to it.",
    ),
    Rule(
        "simulation", ("exhibits/*", "clear/*"),
        "what roles saw in round 1, and encoded updates, in the clear",
        "exhibits for good, the others until the run ends", "updates of single hospitals, unprotected",
        "Exists only for studies marked [simulation]. Delete it before the folder is handed on.",
    ),
    Rule(
        "simulation", ("baselines/*", "partition.json"),
        "comparisons on pooled records; how many records of which class each hospital has", "for good",
        "counts and figures of single hospitals",
        "Exists only for studies marked [simulation]. Delete it before the folder is handed on.",
    ),
    Rule(
        "simulation", ("attacks/*",), "results and pictures of attacks", "for good",
        "pictures may show records", "Exists only for studies marked [simulation]. Delete it at will.",
    ),
)  # fmt: skip
"""Every file that a run leaves is covered by the first rule that fits."""

NOWHERE = (
    "Hospital: patients' records stay where they were; nothing here copies or deletes them.",
    "Coordinator: sealed contributions pass through its memory and are never written to its disk.",
    "Party: the sealing key of a round is in its memory alone, and dropped with the outcome.",
    "Dealer: nothing but its own keys is on its disk; seeds are in its memory for as long as a session.",
    "A patient who withdraws: the record can be left out of later rounds and studies. What the model has learnt of it "
    "cannot be taken out, short of training anew.",
    "Erasing unlinks a file and overwrites nothing. Encrypt the disks.",
)
"""What is not in any file, and what deletion cannot do."""


def retention(run: RunFolder, consortium: Consortium | None) -> tuple[list[Kept], list[str]]:
    """What is stored, with what was found in the run folder; and files that no rule covers, by path.

    Only names, numbers and sizes of files are read.
    """
    patterns = [[_compiled(place, consortium) for place in rule.places] for rule in RULES]
    counts, sizes, others = [0] * len(RULES), [0] * len(RULES), list[str]()
    for name, size in _files(run.path):
        fits = (i for i, places in enumerate(patterns) if any(place.fullmatch(name) for place in places))
        found = next(fits, None)
        if found is None:
            others.append(name)
        else:
            counts[found] += 1
            sizes[found] += size
    return [Kept(*row) for row in zip(RULES, counts, sizes, strict=True)], others


def _compiled(place: str, consortium: Consortium | None) -> re.Pattern[str]:
    names: dict[str, Sequence[str]] = {"hospital": [], "party": [], "dealer": []}
    for member in consortium.members if consortium else ():
        names[member.role] = [*names[member.role], member.name]
    pattern = re.escape(place).replace(r"\*", ".*")
    for role, known in names.items():
        # Without the members' names, any name will do; a role that nobody has fits nothing.
        choices = "|".join(map(re.escape, known)) or ("[a-z][a-z0-9-]*" if consortium is None else "(?!)")
        pattern = pattern.replace(re.escape(f"{{{role}}}"), f"(?:{choices})")
    return re.compile(pattern)


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    # The two files that are being written are no news about what was found.
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.is_symlink() and name not in ("evidence.html", "evidence.json"):
            yield name, path.stat().st_size
