"""``securefl attack`` and ``securefl compare``: what adversaries get out of a simulation, and what privacy costs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from securefl.errors import RunError, StudyError


def attack(
    run_path: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a simulation's run.")],
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--only", help="inversion, membership or canaries; repeat for several (default: all that apply)."
        ),
    ] = None,
    targets: Annotated[int, typer.Option(min=2, max=1000, help="inversion: patients.")] = 8,
    shadows: Annotated[int, typer.Option(min=0, max=1000, help="membership: shadow models for LiRA.")] = 16,
    canaries: Annotated[
        int | None,
        typer.Option(
            min=8, max=10**6, help="canaries: made-up patients (default: 300, or as many as fit the model)."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the attacks' own choices.")] = 0,
) -> None:
    """Attack a simulation for real; results go to RUN/attacks and into the evidence."""
    from securefl import durable
    from securefl.run_folder import RunFolder
    from securefl.study import Study

    folder = RunFolder(run_path.absolute())
    folder.info()
    study = Study.load(folder.path / "study")
    if not study.simulation:
        raise RunError(
            f"{run_path} is no simulation: only a study with a table [simulation] may be attacked."
        )
    trials: dict[str, Callable[[], tuple[Any, dict[str, bytes], list[str]]]] = {
        "inversion": lambda: _inversion(folder.path, targets, seed),
        "membership": lambda: _membership(folder.path, shadows, seed),
        "canaries": lambda: _canaries(folder.path, canaries),
    }
    chosen = kinds or [k for k in trials if k != "canaries" or _by_patient(study)]
    for kind in chosen:
        if kind not in trials:
            raise StudyError(f"There is no attack {kind}: there are {', '.join(trials)}.")
    durable.private_folder(folder.attacks)
    for kind in chosen:
        try:
            result, pictures, sentences = trials[kind]()
        except RunError as error:
            if kinds:
                raise
            print(f"{kind}: not run. {error}")
            continue
        durable.write(folder.attacks / f"{kind}.json", json.dumps(result, indent=1).encode(), mode=0o644)
        for name, picture in pictures.items():
            durable.write(folder.attacks / name, picture, mode=0o644)
        print("\n".join(f"{kind}: {sentence}" for sentence in sentences))
    print(f"Results: {run_path / 'attacks'}; `securefl report {run_path} --evidence` shows them.")


def compare(
    study_path: Annotated[Path, typer.Argument(metavar="STUDY", help="A private simulation.")],
    out: Annotated[
        Path,
        typer.Option(help="Folder for the results; what stands there of this study is not computed again."),
    ],
    epsilons: Annotated[
        list[str] | None,
        typer.Option(
            "--epsilon", help='A target, or "none"; repeat for several (default: 0.3, 1, 3, 8, none).'
        ),
    ] = None,
    splits: Annotated[
        int, typer.Option(min=1, max=1000, help="Splits into training and held-out records.")
    ] = 10,
    arms: Annotated[
        list[str] | None,
        typer.Option("--arm", help="ours, centre, noised-alone or alone; repeat for several (default: all)."),
    ] = None,
) -> None:
    """Utility over epsilon: ours, a trusted centre, noise at each hospital, each hospital alone."""
    from rich.console import Console

    from securefl.comparison.arms import ARMS
    from securefl.comparison.chart import chart
    from securefl.comparison.run import compare as run_comparison
    from securefl.comparison.run import table
    from securefl.study import Study
    from securefl.training.determinism import settle

    settle()
    wanted = [
        None if text == "none" else _epsilon(text) for text in epsilons or ["0.3", "1", "3", "8", "none"]
    ]
    known = [arm for arm in ARMS if arms is None or arm in arms]
    if unknown := set(arms or ()) - set(ARMS):
        raise StudyError(f"There is no arm {min(unknown)}: there are {', '.join(ARMS)}.")
    means = run_comparison(
        Study.load(study_path), out, wanted, range(splits), known,
        lambda line: print(f"split {line.split}, epsilon {line.epsilon}, {line.arm}: {line.accuracy:.4f}"),
    )  # fmt: skip
    Console().print(table(means))
    print(f"Chart: {chart(means, out / 'comparison.png')}")


def _epsilon(text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise StudyError(f'{text} is no epsilon: give a positive number or "none".') from error
    if not 0 < value <= 1000:
        raise StudyError(f'{text} is no epsilon: give a number above 0 and up to 1000, or "none".')
    return value


def _by_patient(study: Any) -> bool:
    privacy = study.settings.privacy
    return privacy is not None and privacy.unit == "patient"


def _inversion(run: Path, targets: int, seed: int) -> tuple[Any, dict[str, bytes], list[str]]:
    import tempfile

    from securefl.attacks.inversion_picture import inversion_picture
    from securefl.attacks.inversion_run import run_inversion

    reports, pictures, sentences = {}, {}, []
    # One search each: a target takes some 10 seconds a method. On the small model iDLG is the one that works.
    models: dict[Literal["study", "small"], tuple[str, ...]] = {
        "study": ("idlg", "cosine"),
        "small": ("idlg",),
    }
    for model, methods in models.items():
        report = run_inversion(run, targets, seed, model, methods, restarts=1)
        reports[model] = report.to_json()
        with tempfile.TemporaryDirectory(prefix="securefl-") as place:
            pictures[f"inversion-{model}.png"] = inversion_picture(
                report, Path(place) / "picture.png"
            ).read_bytes()
        for view in dict.fromkeys(result.view for result in report.results):
            best = report.best(view)
            sentences.append(
                f"{model} model, {view}: SSIM {best.ssim:.2f} by {best.method}, the prior {best.prior_ssim:.2f}, "
                f"difference {best.interval[0]:+.2f} to {best.interval[1]:+.2f}"
            )
    return reports, pictures, sentences


def _membership(run: Path, shadows: int, seed: int) -> tuple[Any, dict[str, bytes], list[str]]:
    from securefl.attacks.membership import run_membership

    report = run_membership(run, shadows, seed)
    found = [
        f"{result.attack}: AUC {result.roc.auc.value:.3f} ({result.roc.auc.low:.3f} to {result.roc.auc.high:.3f})"
        for result in report.results
    ]
    return report.to_json(), {"membership.png": report.picture()}, [*found, *report.notes]


def _canaries(run: Path, canaries: int | None) -> tuple[Any, dict[str, bytes], list[str]]:
    from securefl.attacks.canaries import run_canaries

    report = run_canaries(run, canaries)
    return report.to_json(), {}, [report.sentence]
