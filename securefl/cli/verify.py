"""``securefl verify``: check a run from its files and public keys, a line a check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from securefl.audit import Verdict


def verify(
    run_path: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder of a run, or an auditor's copy.")
    ],
    consortium: Annotated[
        Path | None,
        typer.Option(help="The members' keys as you know them; else those in DIR are believed."),
    ] = None,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Also accept a study that is not closed yet.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse sums that the hospitals did not check.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Check a run offline: study, receipts, sums, models, the hospitals' checks, and that nothing is missing.

    A study with a model in Python is checked by running that code, after the committee's signatures on it.
    """
    from securefl import consortium as members
    from securefl.audit import verify as audit

    pinned = members.load(consortium) if consortium else None
    verdict = audit(run_path.absolute(), pinned)
    accepted = accepts(verdict, unfinished, strict)
    if as_json:
        print(to_json(verdict, accepted))
    else:
        _show(verdict)
    if not accepted:
        raise typer.Exit(1)


def accepts(verdict: Verdict, unfinished: bool, strict: bool) -> bool:
    """Whether the command ends with 0: everything holds, but for what the options let pass."""
    sound = verdict.fault is None and not verdict.unchecked and bool(verdict.receipts)
    return sound and (verdict.closed or unfinished) and not (strict and verdict.unverified)


def to_json(verdict: Verdict, accepted: bool) -> str:
    """The verdict as one JSON object."""
    import json
    from dataclasses import asdict

    shown = {
        "accepted": accepted,
        "sentence": verdict.sentence,
        "closed": verdict.closed,
        "unverified": verdict.unverified,
        "checks": [asdict(check) for check in verdict.checks],
        "claims": verdict.claims,
        "receipts": [asdict(receipt) for receipt in verdict.receipts],
        "not_signed": list(verdict.not_signed),
    }
    return json.dumps(shown, indent=2)


def checks_table(verdict: Verdict) -> Table:
    """A line a check: a mark, what was looked at, what was found."""
    from rich.table import Table
    from rich.text import Text

    marks = {
        "holds": Text("✓", "green"),
        "unverified": Text("!", "yellow"),
        "unchecked": Text("?", "yellow"),
        "fails": Text("✗", "bold red"),
    }
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in verdict.checks:
        table.add_row(marks[check.mark], _plain(check.name), _plain(check.says))
    return table


def _plain(text: str, style: str = "") -> Text:
    """Text as it stands: names and reasons come from the files, and could carry markup or control codes."""
    from rich.text import Text

    return Text("".join(c if c.isprintable() else "?" for c in text), style)


def _show(verdict: Verdict) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print(checks_table(verdict))
    console.print()
    for claim in verdict.claims:
        console.print(_plain(f"{claim[0].upper()}{claim[1:]}."))
    if verdict.not_signed and verdict.fault is None:
        console.print(_plain(f"Nobody signed: {', '.join(verdict.not_signed)}."))
    style = "bold red" if verdict.fault else "bold yellow" if not verdict.holds else "bold green"
    console.print(_plain(verdict.sentence, style))
