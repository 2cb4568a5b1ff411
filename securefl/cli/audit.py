"""``securefl audit``: the registry of guarantees, and the attacks that stand against them."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from securefl.errors import SecureFLError

if TYPE_CHECKING:
    from rich.table import Table

    from securefl.audit.registry import Claim, Mutant, Trial

app = typer.Typer(help="What is promised, and attacks that put it to the test.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="One JSON array.")]
T = TypeVar("T")


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
    """Run each attack against a protocol without the protection, and against what ships: about a minute for all.

    Ends with exit code 1 if a naive protocol withstands its attack, or if what ships does not.
    """
    # The attacks make TLS handshakes fail, and gRPC would tell of each.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from securefl.audit.mutants import MUTANTS
    from securefl.audit.registry import try_mutant
    from securefl.training.determinism import single_thread

    chosen = _chosen(names, MUTANTS, "mutant")
    single_thread()
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
        said = f"[bold]{claim.id}[/bold]\n{claim.statement}\n[dim]mutants: {', '.join(claim.mutants) or 'none'}[/dim]"
        table.add_row(said, claim.adversary, claim.limits)
    return table


def _in_full(claim: Claim) -> str:
    lines = [f"{claim.id}: {claim.statement}", f"  Against   {claim.adversary}."]
    lines += [f"  {'Enforced  ' if i == 0 else 10 * ' '}{name}" for i, name in enumerate(claim.where)]
    lines += [f"  {'Shown     ' if i == 0 else 10 * ' '}{shown}" for i, shown in enumerate(claim.shown)]
    lines.append(f"  Limits    {claim.limits}")
    lines.append(f"  Mutants   {', '.join(claim.mutants) or f'none. {claim.no_mutant}'}")
    return "\n".join(lines)


def _told(trial: Trial) -> str:
    mutant: Mutant = trial.mutant
    return "\n".join(
        [
            f"{'ok  ' if trial.holds else 'BAD '}{mutant.name} (against {mutant.claim}, {trial.seconds:.1f} s)",
            f"    changed: {mutant.changed}",
            f"    {'breaks: ' if trial.breaks.holds else 'DOES NOT BREAK: '}{trial.breaks.sentence}",
            f"    {'caught: ' if trial.caught.holds else 'NOT CAUGHT: '}{trial.caught.sentence}",
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
