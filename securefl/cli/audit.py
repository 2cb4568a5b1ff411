"""``securefl audit``: the registry of guarantees, the attacks that stand against them, and what a run has left."""

from __future__ import annotations

import base64
import difflib
import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from securefl.errors import SecureFLError

if TYPE_CHECKING:
    from rich.table import Table

    from securefl.audit.deployment import Examined
    from securefl.audit.overview import Overview
    from securefl.audit.registry import Claim, Mutant, Trial


class _FolderOrCommand(TyperGroup):
    """``securefl audit RUN`` for a folder; a sub-command's name comes first."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The sub-command, or the one that looks at a folder."""
        if args and self.get_command(ctx, args[0]) is None:
            args = ["run", *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_FolderOrCommand,
    help="What is promised, attacks that put it to the test, and what a run's folder shows of it.\n\n"
    "Without a command: every claim and every mutant, in about two minutes. With a folder: a finished run.",
    invoke_without_command=True,
    subcommand_metavar="[RUN | COMMAND] [ARGS]...",
)
AsJson = Annotated[bool, typer.Option("--json", help="One JSON array.")]
T = TypeVar("T")


@app.callback()
def audit(
    context: typer.Context,
    all_mutants: Annotated[
        bool, typer.Option("--mutants", help="Show the matrix of claims and mutants as well.")
    ] = False,
) -> None:
    """Run everything, unless a command or a folder is named. Ends with 1 if a claim does not hold."""
    if context.invoked_subcommand is not None:
        if all_mutants:
            raise SecureFLError("--mutants stands alone: `securefl audit --mutants`.")
        return
    started = time.monotonic()
    overview = _run_all()
    from securefl.audit.overview import screen

    if all_mutants:
        from rich.console import Console

        Console().print(_matrix(overview))
    print(screen(overview, time.monotonic() - started))
    if not overview.green:
        raise typer.Exit(1)


@app.command("run", hidden=True)
def run(
    folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="The folder of a finished run, from any engine.")
    ],
    consortium: Annotated[
        Path | None,
        typer.Option(help="The members' keys as you know them; else those in RUN are believed."),
    ] = None,
    canary: Annotated[
        list[str] | None, typer.Option(help="A text that must stand nowhere in RUN; may be repeated.")
    ] = None,
    canary_file: Annotated[
        Path | None,
        typer.Option(help="A file with such a text in each line, which no list of processes shows."),
    ] = None,
    steward: Annotated[
        list[str] | None,
        typer.Option(metavar="HOSPITAL=KEY", help="A steward's public key in base64, or his card.cbor."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write JSON.")] = None,
) -> None:
    """Check a finished run: receipts, members, cohorts, message sizes, budgets, approvals, key files, secrets.

    Ends with exit code 1 if a promise is broken; what cannot be seen from here is told, and is no failure.
    """
    from rich.console import Console

    from securefl import consortium as members
    from securefl.audit.deployment import canaries_of, examine, told_as

    if not folder.is_dir():
        raise SecureFLError(_no_such(folder))
    texts = [*(canary or []), *_lines(canary_file)]
    pinned = members.load(consortium) if consortium else None
    examined = examine(folder.absolute(), pinned, canaries_of(texts), _stewards(steward or []))
    if json_file:
        json_file.write_text(json.dumps(told_as(examined), indent=2) + "\n")
    console = Console(highlight=False)
    console.print(_findings(examined))
    broken = examined.broken
    own = "" if pinned else ", by keys that it brings itself: give --consortium"
    print(
        f"\nBROKEN: {broken.name}."
        if broken
        else f"\nNo promise is broken, as far as this folder shows{own}."
    )
    if broken:
        raise typer.Exit(1)


@app.command("threat-model")
def threat_model(
    write: Annotated[bool, typer.Option("--write", help="Write it into the file.")] = False,
) -> None:
    """Compare the claims in threat_model.md with the registry, in a checkout, or write them there."""
    from securefl.audit import threat_model as document
    from securefl.audit.claims import THEMES
    from securefl.audit.mutants import MUTANTS

    root = document.checkout(Path.cwd())
    path = root / document.FILE
    before = path.read_text()
    after = document.replaced(before, document.section(THEMES, MUTANTS, root))
    if write:
        path.write_text(after)
    elif after != before:
        raise SecureFLError(
            f"{document.FILE} and the registry differ: run `securefl audit threat-model --write`."
        )
    broken = document.broken_links(after, root)
    if broken:
        raise SecureFLError(f"{document.FILE} has links that lead nowhere: {', '.join(broken[:5])}.")
    print(f"{document.FILE} has the registry's {sum(map(len, THEMES.values()))} claims.")


@app.command()
def claims(
    ids: Annotated[list[str] | None, typer.Argument(metavar="CLAIM...", help="Show these in full.")] = None,
    as_json: AsJson = False,
) -> None:
    """List what is promised, against whom, where that is enforced, how it is shown, and its limits."""
    from rich.console import Console

    from securefl.audit.claims import CLAIMS

    chosen = _chosen(ids, CLAIMS, "claim")
    if as_json:
        print(json.dumps([asdict(claim) for claim in chosen], indent=2))
    elif ids:
        print("\n\n".join(_in_full(claim) for claim in chosen))
    else:
        Console().print(_table(chosen))


@app.command()
def mutants(
    names: Annotated[list[str] | None, typer.Argument(metavar="MUTANT...", help="Run these only.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run each attack against a protocol without the protection, and against what ships: two minutes for all.

    Ends with exit code 1 if a naive protocol withstands its attack, or if what ships does not.
    """
    _quiet_and_single()
    from securefl.audit.mutants import MUTANTS
    from securefl.audit.registry import try_mutant

    chosen = _chosen(names, MUTANTS, "mutant")
    trials = []
    for mutant in chosen:
        trials.append(try_mutant(mutant))
        if not as_json:
            print(_told(trials[-1]), flush=True)
    held = sum(trial.holds for trial in trials)
    if as_json:
        print(json.dumps([_plain(trial) for trial in trials], indent=2))
    else:
        print(f"{held} of {len(trials)} mutants break the naive protocol and are caught.")
    if held < len(trials):
        raise typer.Exit(1)


def _quiet_and_single() -> None:
    # The attacks make TLS handshakes fail, and gRPC would tell of each.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # The attacks make members refuse, and each would log it; CrypTen lets nothing go unsaid where nobody has decided.
    logging.getLogger().addHandler(logging.NullHandler())
    from securefl.training.determinism import single_thread

    single_thread()


def _run_all() -> Overview:
    """Every claim, with a bar."""
    _quiet_and_single()
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from securefl.audit.claims import THEMES
    from securefl.audit.mutants import MUTANTS
    from securefl.audit.overview import run_all

    columns = (BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=len(MUTANTS))
        return run_all(
            THEMES, MUTANTS, lambda trial: bar.update(task, advance=1, description=trial.mutant.name)
        )


def _matrix(overview: Overview) -> Table:
    from rich.table import Table

    from securefl.audit.overview import matrix

    table = Table("claim", "mutant", "naive", "shipped", "s")
    for row in matrix(overview):
        table.add_row(*row)
    return table


def _findings(examined: Examined) -> Table:
    from rich.table import Table
    from rich.text import Text

    styles = {"holds": "green", "unverified": "yellow", "unchecked": "yellow", "fails": "bold red"}
    table = Table(show_lines=False)
    table.add_column("promise", no_wrap=True)
    table.add_column(no_wrap=True)
    # A digest is to be compared: its end goes to the next line, and not away.
    table.add_column("found", overflow="fold")
    for check in examined.checks:
        says = "".join(c if c.isprintable() else "?" for c in check.says)
        table.add_row(check.name, Text(check.mark, styles[check.mark]), Text(says))
    table.add_section()
    for claim in examined.verdict.claims:
        table.add_row("", "", Text(f"{claim[0].upper()}{claim[1:]}."))
    return table


def _no_such(folder: Path) -> str:
    near = difflib.get_close_matches(str(folder), ["claims", "mutants", "threat-model"], n=1, cutoff=0.5)
    hint = f"; did you mean the command {near[0]}?" if near else "."
    return f"There is no folder {folder}{hint}"


def _lines(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        return [line for line in path.read_text().splitlines() if line]
    except (OSError, UnicodeDecodeError) as error:
        raise SecureFLError(f"{path} cannot be read: give a text file with a canary in each line.") from error


def _stewards(given: list[str]) -> dict[str, bytes]:
    found = {}
    for one in given:
        hospital, _, key = one.partition("=")
        try:
            found[hospital] = (
                _of_card(Path(key)) if key.endswith(".cbor") else base64.b64decode(key, validate=True)
            )
        except ValueError as error:
            raise SecureFLError(f"--steward {one} is not HOSPITAL=KEY with a key in base64.") from error
        if not hospital or len(found[hospital]) != 32:
            raise SecureFLError(f"--steward {one} is not HOSPITAL=KEY with 32 bytes in base64.")
    return found


def _of_card(path: Path) -> bytes:
    from securefl.domain.cards import LONGEST_CARD, read_card

    try:
        with path.open("rb") as file:
            return read_card(file.read(LONGEST_CARD + 1)).signing
    except OSError as error:
        raise SecureFLError(f"{path} cannot be read: {(error.strerror or 'unknown').lower()}.") from error


def _chosen(names: list[str] | None, known: Mapping[str, T], what: str) -> list[T]:
    unknown = [name for name in names or () if name not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "`securefl audit claims` lists them."
        raise SecureFLError(f"There is no {what} {unknown[0]}; {hint}")
    return [known[name] for name in names or known]


def _table(chosen: list[Claim]) -> Table:
    from rich.table import Table

    table = Table("claim", "against", "limits", title=f"{len(chosen)} claims", show_lines=True)
    for claim in chosen:
        said = f"[bold]{claim.id}[/bold]\n{claim.statement}\n[dim]mutants: {', '.join(claim.mutants)}[/dim]"
        table.add_row(said, claim.adversary, claim.limits)
    return table


def _in_full(claim: Claim) -> str:
    who = f" ({claim.behaviour}: {', '.join(claim.colluding)})" if claim.colluding else ""
    lines = [f"{claim.id}: {claim.statement}", f"  Against   {claim.adversary}{who}."]
    for i, name in enumerate(claim.where):
        by_test = f" (not seen in an attack, left to {claim.tested[name]})" if name in claim.tested else ""
        lines.append(f"  {'Enforced  ' if i == 0 else 10 * ' '}{name}{by_test}")
    lines.append(f"  Shown by  {', '.join(claim.how)}{f'. {claim.error}' if claim.error else ''}")
    lines += [f"  {'Tests     ' if i == 0 else 10 * ' '}{shown}" for i, shown in enumerate(claim.shown)]
    lines.append(f"  Limits    {claim.limits}")
    lines.append(f"  Mutants   {', '.join(claim.mutants)}")
    return "\n".join(lines)


def _told(trial: Trial) -> str:
    mutant: Mutant = trial.mutant
    unseen = "NOT CAUGHT: " if trial.caught.shown else "NOT SHOWN HERE: "
    return "\n".join(
        [
            f"{'ok  ' if trial.holds else 'BAD '}{mutant.name} (against {mutant.claim}, {trial.seconds:.1f} s)",
            f"    changed: {mutant.changed}",
            f"    {'breaks: ' if trial.breaks.holds else 'DOES NOT BREAK: '}{trial.breaks.sentence}",
            f"    {'caught: ' if trial.caught.holds else unseen}{trial.caught.sentence}",
        ]
    )


def _plain(trial: Trial) -> dict[str, object]:
    mutant = trial.mutant
    return {
        "name": mutant.name,
        "claim": mutant.claim,
        "changed": mutant.changed,
        "holds": trial.holds,
        "breaks": asdict(trial.breaks),
        "caught": asdict(trial.caught),
        "seconds": round(trial.seconds, 3),
    }
