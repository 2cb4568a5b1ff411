"""Commands that serve: a party's process, and the hospitals' processes of the local engine."""

from __future__ import annotations

import logging
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

party_app = typer.Typer(help="The aggregation committee.", no_args_is_help=True)
dealer_app = typer.Typer(help="The dealer of correlated randomness.", no_args_is_help=True)
hospital_app = typer.Typer(help="Hospitals of the local engine.", no_args_is_help=True)

StudyPath = Annotated[Path, typer.Option("--study", help="The study folder.")]
ConsortiumPath = Annotated[
    Path, typer.Option("--consortium", help="The consortium file with the pinned keys.")
]
KeysPath = Annotated[Path, typer.Option("--keys", help="Folder with one folder of private keys a member.")]
HomePath = Annotated[
    Path,
    typer.Option(
        "--home", help="Folder for what must survive a restart; {study} in it stands for the study's digest."
    ),
]
SocketPath = Annotated[Path, typer.Option("--socket", help="Unix socket to serve on, mode 0600.")]
ExhibitsPath = Annotated[Path | None, typer.Option("--exhibits", hidden=True)]
Unchecked = Annotated[
    bool,
    typer.Option("--insecure-unchecked", help="Take part in a run in which nobody checks norms and sums."),
]
Leashed = Annotated[bool, typer.Option("--leashed", help="End when standard input is closed.")]


@party_app.command("serve")
def party_serve(
    name: Annotated[str, typer.Argument(help="The party's name in the consortium.")],
    study: StudyPath,
    consortium: ConsortiumPath,
    keys: KeysPath,
    home: HomePath,
    socket: SocketPath,
    listen: Annotated[str, typer.Option(help="host:port for the other parties, for example 127.0.0.1:7001.")],
    peer: Annotated[
        list[str],
        typer.Option(
            help="host:port of every party, in the order of the ranks; then the dealer's, if the study checks norms."
        ),
    ],
    ledger: Annotated[
        Path | None,
        typer.Option(
            help="Folder for what it remembers over all studies (default: NAME.ledger beside HOME)."
        ),
    ] = None,
    exhibits: ExhibitsPath = None,
    leashed: Leashed = False,
    unchecked: Unchecked = False,
) -> None:
    """Serve one party of a study until the process ends."""
    _prepare(leashed)
    from securefl.training.determinism import single_thread

    single_thread()
    from securefl.engines.party_node import PartyPlaces, serve_party
    from securefl.errors import EngineError

    if ledger is None and "{study}" in str(home):
        raise EngineError("A home for each study wants --ledger, for what is remembered over all studies.")

    places = PartyPlaces(
        study,
        consortium,
        keys / name,
        home,
        socket,
        listen,
        peer,
        ledger or home.with_name(f"{name}.ledger"),
        exhibits,
        unchecked,
    )
    server = serve_party(name, places)
    _serve(server)


@dealer_app.command("serve")
def dealer_serve(
    name: Annotated[str, typer.Argument(help="The dealer's name in the consortium.")],
    consortium: ConsortiumPath,
    keys: KeysPath,
    socket: SocketPath,
    listen: Annotated[str, typer.Option(help="host:port for the parties, for example 127.0.0.1:7000.")],
    peer: Annotated[
        list[str], typer.Option(help="host:port of every party, in the order of the ranks; then its own.")
    ],
    leashed: Leashed = False,
) -> None:
    """Deal correlated randomness to the parties until the process ends. It sees no data."""
    _prepare(leashed)
    from securefl.engines.dealer_node import DealerPlaces, serve_dealer

    _serve(serve_dealer(name, DealerPlaces(consortium, keys / name, socket, listen, peer)))


@hospital_app.command("serve")
def hospital_serve(
    study: StudyPath,
    consortium: ConsortiumPath,
    keys: KeysPath,
    home: HomePath,
    socket: SocketPath,
    exhibits: ExhibitsPath = None,
    clear: Annotated[Path | None, typer.Option("--clear", hidden=True)] = None,
    leashed: Leashed = False,
    unchecked: Unchecked = False,
    privacy: Annotated[
        Path | None,
        typer.Option(
            help="Folder with a folder for each hospital: its privacy ledger, over all studies, and its budget."
        ),
    ] = None,
) -> None:
    """Serve any hospital of a study until the process ends."""
    _prepare(leashed)
    from securefl.training.determinism import settle

    settle()
    from securefl.engines.hospital_node import HospitalPlaces, serve_hospitals

    places = HospitalPlaces(study, consortium, keys, home, socket, exhibits, clear, unchecked, privacy)
    _serve(serve_hospitals(places))


def supernode(
    context: typer.Context,
    member: Annotated[Path, typer.Argument(metavar="MEMBER.TOML", help="The member's own file.")],
) -> None:
    """Be a member's Flower SuperNode. What follows MEMBER.TOML is for flower-supernode; see its --help."""
    from securefl.flower.supernode import serve

    serve(member, context.args)


def _prepare(leashed: bool) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if leashed:
        from securefl.engines.local.children import end_with_parent

        end_with_parent()


def _serve(server: object) -> None:
    # The server lives in its own threads; this one only has to stay until somebody ends the process.
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()
    del server
