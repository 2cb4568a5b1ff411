"""Commands on members and keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Members and their pinned keys.", no_args_is_help=True)


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(help="Folder for consortium.toml and keys/.")],
    hospital: Annotated[list[str], typer.Option(help="A hospital's name; repeat for each.")],
    party: Annotated[
        list[str], typer.Option(help="A party's name, in the order of the ranks; repeat for each.")
    ],
    dealer: Annotated[
        str | None, typer.Option(help="The dealer's name, for studies that check norms: none of the others.")
    ] = None,
) -> None:
    """Make keys for all members and pin them. Hand each member its folder under keys/, and delete it here."""
    from securefl import consortium

    made = consortium.create(folder, hospital, party, dealer)
    print(f"Made {folder / 'consortium.toml'}: {len(made.hospitals)} hospitals, {len(made.parties)} parties.")
    print(f"Private keys are in {folder / 'keys'}: hand each member its own folder, and keep no copy.")


@app.command()
def show(file: Annotated[Path, typer.Argument(help="consortium.toml, or its folder.")]) -> None:
    """List the members and the fingerprints of their keys, to compare over another channel."""
    from rich.console import Console
    from rich.table import Table

    from securefl import consortium

    loaded = consortium.load(file / "consortium.toml" if file.is_dir() else file)
    table = Table("member", "role", "fingerprint", title=f"Consortium {loaded.id}, epoch {loaded.epoch}")
    for member in loaded.members:
        table.add_row(member.name, member.role, member.fingerprint)
    Console().print(table)
    print(f"Digest: {loaded.digest().hex()}")


@app.command()
def rotate(
    folder: Annotated[Path, typer.Argument(help="Folder with consortium.toml and keys/.")],
    member: Annotated[str, typer.Argument(help="Whose keys were lost or may be known to others.")],
) -> None:
    """Give a member new keys and pin them; every study that names this consortium gets a new digest."""
    from securefl import consortium

    changed = consortium.rotate(folder, member)
    print(f"{member} has new keys: {changed.member(member).fingerprint}. Consortium epoch {changed.epoch}.")
    print(
        "Hand consortium.toml to every member. Studies get a new digest: running ones are closed or started anew."
    )
