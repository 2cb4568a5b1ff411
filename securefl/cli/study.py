"""Commands on study folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Study folders: make, check, show, plan.", no_args_is_help=True)
StudyPath = Annotated[Path, typer.Argument(metavar="STUDY", help="The study folder.")]


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(help="Folder to make.")],
    template: Annotated[str, typer.Option(help="mnist, fed-heart or own-data.")] = "mnist",
) -> None:
    """Make a study folder to start from, with every key explained."""
    from securefl.study.template import make_study

    make_study(folder, template)
    print(f"Made {folder / 'study.toml'}. Next: securefl study check {folder}")


@app.command()
def check(study: StudyPath) -> None:
    """Check everything that can be checked before a run: settings, members, data, model."""
    from securefl.plain_text import line
    from securefl.study_check import check_study

    for found in check_study(study):
        print(line(found))


@app.command()
def show(study: StudyPath) -> None:
    """Print all settings, the defaults included, and the files that count."""
    import hashlib
    import json

    from securefl.plain_text import line
    from securefl.study import Study

    loaded = Study.load(study)
    print(json.dumps(loaded.settings.model_dump(), indent=2))
    for name, content in loaded.files.items():
        print(f"{hashlib.sha256(content).hexdigest()}  {line(name)}")


@app.command()
def plan(study: StudyPath) -> None:
    """Say before anything runs who will see what, how many bytes, for how many rounds."""
    from rich.console import Console

    from securefl.study_check import plan_tables

    console = Console()
    for table in plan_tables(study):
        console.print(table)
