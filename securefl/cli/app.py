"""The ``securefl`` command: its sub-commands, and how errors are shown."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from protocols.errors import ProtocolError
from securefl.cli import attack, audit, consortium, deploy, domain, serve, study, verify
from securefl.errors import EngineError, SecureFLError
from securefl.plain_text import line


class _Interruptible(TyperGroup):
    """Says what Ctrl-C has left, before Typer ends the command without a word."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; its exit code, if it is interrupted, is the shell's for that."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            left = (
                "; what was settled is on disk, go on with --resume"
                if ctx.invoked_subcommand == "run"
                else ""
            )
            print(f"Error: interrupted{left}.", file=sys.stderr)
            raise typer.Exit(130) from None


app = typer.Typer(
    name="securefl",
    cls=_Interruptible,
    help="Train a PyTorch model over hospitals, with nobody seeing a single hospital's update.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
bench_app = typer.Typer(help="Measure what a round costs.", no_args_is_help=True)
app.add_typer(study.app, name="study")
app.add_typer(consortium.app, name="consortium")
app.add_typer(deploy.app, name="deploy")
app.add_typer(domain.app, name="domain")
app.add_typer(audit.app, name="audit")
app.add_typer(bench_app, name="bench")
app.add_typer(serve.party_app, name="party")
app.add_typer(serve.dealer_app, name="dealer")
app.add_typer(serve.hospital_app, name="hospital", hidden=True)
app.command("supernode", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(
    serve.supernode
)
app.command("verify")(verify.verify)
app.command("attack")(attack.attack)
app.command("compare")(attack.compare)

RunPath = Annotated[Path, typer.Argument(help="The folder of a run.")]


@app.command()
def run(
    study_path: Annotated[Path, typer.Argument(metavar="STUDY", help="The study folder.")],
    out: Annotated[Path, typer.Option(help="Folder for everything that the run leaves.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Empty OUT first, if it holds a run.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Processes for the hospitals (default: one a processor)."),
    ] = None,
    base_port: Annotated[
        int | None,
        typer.Option(
            min=1024, max=65500, help="First port of the parties, on 127.0.0.1 (default: free ones)."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No bar and no line a round.")] = False,
    insecure_unchecked: Annotated[
        bool,
        typer.Option(
            "--insecure-unchecked", help="Check neither norms nor sums; the report and every receipt say so."
        ),
    ] = False,
    engine: Annotated[
        Literal["local", "flower", "ray"],
        typer.Option(
            help="local: processes of this computer; flower: over a running SuperLink; ray: many simulated hospitals."
        ),
    ] = "local",
    connection: Annotated[
        str | None,
        typer.Option(help="The SuperLink's name in Flower's configuration (default: Flower's default)."),
    ] = None,
) -> None:
    """Run a study: train, compare, report. On this computer, unless another engine is named."""
    from rich.console import Console

    given = {"--workers": workers, "--base-port": base_port, "--connection": connection}
    for option in {
        "local": ["--connection"],
        "ray": ["--connection"],
        "flower": ["--workers", "--base-port"],
    }[engine]:
        if given[option] is not None:
            raise EngineError(
                f"{option} says nothing to --engine {engine}: leave it out, or choose another engine."
            )
    again = f"securefl run {study_path} --out {out}{f' --engine {engine}' if engine != 'local' else ''}"
    again += f"{f' --connection {connection}' if connection else ''} --resume"
    if engine == "flower":
        # Before torch is loaded: what keeps the run from being handed over is said at once.
        from securefl.flower.submit import run_over_flower

        options = {"resume": resume, "overwrite": overwrite, "insecure-unchecked": insecure_unchecked}
        ended = run_over_flower(study_path, out, connection, options, quiet)
    from securefl import running
    from securefl.report import summary_table

    if engine == "flower":
        if ended:
            Console().print(summary_table(running.load_result(out).summary))
            print(f"Report: {_relative(out.absolute() / 'report.html')}")
        else:
            print(f"Stopped; go on with: {again}")
        return
    if engine == "ray":
        from securefl.flower.simulation import simulate

        result = simulate(
            study_path,
            out,
            actors=workers,
            base_port=base_port,
            resume=resume,
            overwrite=overwrite,
            progress=not quiet,
            insecure_unchecked=insecure_unchecked,
        )
    else:
        result = running.run(
            study_path,
            out,
            resume=resume,
            overwrite=overwrite,
            workers=workers,
            base_port=base_port,
            progress=not quiet,
            insecure_unchecked=insecure_unchecked,
        )
    if not result.finished:
        print(f"Stopped after {len(result.history)} rounds; go on with: {again}")
        return
    Console().print(summary_table(result.summary))
    print(f"Report: {_relative(result.path / 'report.html')}")


@app.command()
def status(run_path: RunPath) -> None:
    """Say how far a run has come."""
    import json

    from securefl.run_folder import RunFolder
    from securefl.study import Study

    folder = RunFolder(run_path.absolute())
    info, history = folder.info(), folder.history()
    rounds = Study.load(folder.path / "study").settings.training.rounds
    done = [told for told in history if told["round"] > 0]
    state = "running" if folder.running() else "finished" if folder.summary_file.exists() else "not running"
    shown = {
        "name": info.get("name"),
        "state": state,
        "rounds": f"{len(done)} of {rounds}",
        "accuracy": done[-1].get("accuracy") if done else None,
        "started": info.get("started"),
        "study": info["study"],
    }
    print(json.dumps(shown, indent=2))


@app.command()
def stop(run_path: RunPath) -> None:
    """Ask a running study to stop after its round, or to leave its comparisons; it can be resumed."""
    from securefl import durable
    from securefl.errors import RunError
    from securefl.run_folder import RunFolder

    folder = RunFolder(run_path.absolute())
    folder.info()
    if not folder.running():
        raise RunError(f"No run is using {run_path}: there is nothing to stop.")
    durable.write(folder.stop_file, b"stop\n")
    if folder.closing() is None:
        print("The run stops after its round; go on with --resume.")
    else:
        print("Training is over. Comparisons that are not made yet stop; --resume makes them.")


@app.command()
def report(
    run_path: RunPath,
    evidence: Annotated[
        bool,
        typer.Option(
            "--evidence", help="Also evidence.html and evidence.json, for a data protection officer."
        ),
    ] = False,
) -> None:
    """Write report.html of a run again."""
    from securefl.report import write_report
    from securefl.run_folder import RunFolder

    folder = RunFolder(run_path.absolute())
    folder.info()
    print(f"Report: {_relative(write_report(folder))}")
    if evidence:
        from securefl.report.evidence_page import write_evidence

        page, facts = write_evidence(folder)
        print(f"Evidence: {_relative(page)}, {_relative(facts)}")


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Check this installation: versions, CrypTen, TLS, HPKE, determinism."""
    from securefl.doctor import examine, show

    findings = examine()
    show(findings, as_json)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


@bench_app.command("round")
def bench_round(
    parameters: Annotated[
        int, typer.Option(min=1, max=10**8, help="D, coordinates of an update.")
    ] = 1_000_000,
    hospitals: Annotated[int, typer.Option(min=2, max=1000, help="K, hospitals in the round.")] = 20,
    parties: Annotated[int, typer.Option(min=2, max=16, help="P, parties of the committee.")] = 3,
    width: Annotated[int, typer.Option(help="w, bits of the ring: 16, 32 or 64.")] = 32,
    repeats: Annotated[int, typer.Option(min=1, max=1000, help="Repetitions; medians are shown.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Measure one round in CPU time and bytes, beside plaintext averaging in the same process."""
    from securefl.training.determinism import ENVIRONMENT

    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        # Measure in the environment in which the engine runs hospitals and parties.
        os.execve(
            sys.executable,
            [sys.executable, "-P", "-m", "securefl", *sys.argv[1:]],
            {**os.environ, **ENVIRONMENT},
        )
    from securefl.bench.process import show
    from securefl.bench.round import measure_round

    show("One round", measure_round(parameters, hospitals, parties, width, repeats), as_json)


@bench_app.command("norm")
def bench_norm(
    parameters: Annotated[
        int, typer.Option(min=1, max=10**8, help="D, coordinates of an update.")
    ] = 1_000_000,
    hospitals: Annotated[int, typer.Option(min=2, max=1000, help="K, hospitals in the round.")] = 20,
    parties: Annotated[int, typer.Option(min=2, max=16, help="P, parties of the committee.")] = 3,
    width: Annotated[int, typer.Option(help="w, bits of the ring: 16, 32 or 64.")] = 32,
    repeats: Annotated[int, typer.Option(min=1, max=1000, help="Repetitions; medians are shown.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Measure one norm check: the parties and a dealer as processes of their own, with TLS between them."""
    from securefl.bench.norm import measure_norm
    from securefl.bench.process import show

    show("One norm check", measure_norm(parameters, hospitals, parties, width, repeats), as_json)


@bench_app.command("channel")
def bench_channel(
    elements: Annotated[
        int, typer.Option(min=1, max=10**8, help="Elements of 8 bytes in the vector that is added up.")
    ] = 5_000_000,
    parties: Annotated[int, typer.Option(min=2, max=16, help="P, parties of the committee.")] = 3,
    repeats: Annotated[int, typer.Option(min=1, max=1000, help="Repetitions; medians are shown.")] = 9,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Measure a sum over the committee's channel beside gloo, which has no TLS, in turns."""
    from securefl.bench.channel import measure_channel
    from securefl.bench.process import show

    show("One sum over the committee", measure_channel(elements, parties, repeats), as_json)


@bench_app.command("noise")
def bench_noise(
    samples: Annotated[int, typer.Option(min=1, max=10**8, help="D, coordinates.")] = 1_000_000,
    variance_bits: Annotated[int, typer.Option(min=0, max=80, help="Variance 2^BITS, units squared.")] = 40,
    width: Annotated[int, typer.Option(help="w, bits of the ring: 16, 32 or 64.")] = 64,
    repeats: Annotated[int, typer.Option(min=1, max=1000, help="Repetitions; medians are shown.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Measure one party's discrete Gaussian noise in CPU time."""
    from securefl.bench.noise import measure_noise
    from securefl.bench.process import show

    show("One party's noise", measure_noise(samples, 2**variance_bits, width, repeats), as_json)


@bench_app.command("secagg")
def bench_secagg(
    parameters: Annotated[
        int, typer.Option(min=1, max=10**8, help="D, coordinates of an update.")
    ] = 1_000_000,
    clients: Annotated[int, typer.Option(min=3, max=1000, help="K, clients in the exchange.")] = 20,
    lost: Annotated[int, typer.Option(min=0, max=1000, help="Clients that leave before they send.")] = 0,
    width: Annotated[int, typer.Option(help="w, bits of the ring: 16, 32 or 64.")] = 64,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Measure one exchange of pairwise masks, as in the replacement for Flower's SecAgg+."""
    from securefl.bench.process import show
    from securefl.bench.secagg import measure_secagg

    show("One exchange of pairwise masks", measure_secagg(parameters, clients, lost, width), as_json)


@app.command(hidden=True)
def baselines(
    names: Annotated[list[str], typer.Argument()],
    study_path: Annotated[Path, typer.Option("--study")],
    out: Annotated[Path, typer.Option()],
) -> None:
    """Compute baselines of a run (called by ``run``)."""
    from securefl.baselines import compute
    from securefl.engines.local.children import end_with_parent
    from securefl.run_folder import RunFolder
    from securefl.study import Study
    from securefl.training.determinism import settle

    end_with_parent()
    settle()
    for name in names:
        compute(RunFolder(out), Study.load(study_path), name)


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    print(installed("securefl"))


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _complain(sentence: str) -> None:
    """Print an error on one line; what it names may come from others' files."""
    print(f"Error: {line(' '.join(sentence.split()))}", file=sys.stderr)


def main() -> None:
    """Entry point: one sentence for an error that we know, and a non-zero exit."""
    try:
        app()
    except (SecureFLError, ProtocolError) as error:
        _complain(str(error))
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _complain(f"{where}{(error.strerror or str(error)).lower()}.")
        sys.exit(1)
