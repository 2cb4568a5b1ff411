"""``securefl domain``: who may run what on whose data. Each command opens the session of one person's home."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from securefl.domain.owner_session import Owner
    from securefl.domain.researcher_session import Researcher

app = typer.Typer(
    help="Propose, review, approve, run, revoke: between researchers, stewards and operators.",
    no_args_is_help=True,
)

Home = Annotated[Path, typer.Option(help="Your home in the domain.", envvar="SECUREFL_HOME")]
Name = Annotated[
    str, typer.Argument(metavar="PROPOSAL", help="The proposal's name, as `requests` or `status` lists it.")
]
Reason = Annotated[str, typer.Option(help="For the audit log, and for whom it concerns.")]
HERE = Path()


@app.command()
def init(
    email: Annotated[str, typer.Argument(help="Your email, in lower case: your name in the domain.")],
    relay: Annotated[Path, typer.Option(help="The folder that all share.")],
    part: Annotated[
        Literal["owner", "researcher", "operator"],
        typer.Option(help="owner (a hospital's steward), researcher or operator."),
    ],
    home: Home = HERE,
    folder: Annotated[
        Path | None,
        typer.Option(help="An owner's hospital folder, an operator's member folder, of `securefl deploy`."),
    ] = None,
) -> None:
    """Make your home and your keys, and put your card into the shared folder."""
    from securefl.domain.settings import HomeSettings

    settings = HomeSettings(
        email=email, part=part, relay=str(relay.absolute()), folder=str(folder.absolute()) if folder else None
    )
    with settings.open(home) as session:
        session.mail.introduce()
        settings.save(home)
        print(f"{home} is the home of {email}.")
        print(f"Fingerprint, to read out over the telephone: {session.fingerprint}")


@app.command()
def show(home: Home = HERE) -> None:
    """Print your fingerprint, and whom you have accepted."""
    with _session(home) as session:
        print(f"{session.email}  {session.fingerprint}")
        for card in session.peers:
            print(f"{card.email:<40} {card.fingerprint}")


@app.command()
def accept(
    peer: Annotated[str, typer.Argument(help="An email.")],
    fingerprint: Annotated[str, typer.Argument(help="As the peer read it out, in quotes.")],
    home: Home = HERE,
) -> None:
    """Take somebody in, after comparing the fingerprint over another channel."""
    with _session(home) as session:
        session.accept(peer, fingerprint)
        print(f"{peer} is accepted.")


@app.command()
def remove(peer: Annotated[str, typer.Argument(help="An email.")], reason: Reason, home: Home = HERE) -> None:
    """Put somebody out: nothing that its keys sign is taken any more."""
    with _session(home) as session:
        session.remove(peer, reason)
        print(f"{peer} is removed.")


@app.command()
def publish(
    name: Annotated[str, typer.Argument(help="The dataset's name.")],
    private: Annotated[Path, typer.Option(help="Folder of the real records; nothing of it is sent.")],
    mock: Annotated[Path, typer.Option(help="Folder of made-up files of the same shape, for everybody.")],
    description: Annotated[str, typer.Option(help="For everybody.")] = "",
    home: Home = HERE,
) -> None:
    """Owner: show a dataset."""
    with _owner(home) as owner:
        owner.publish(name, private, mock, description)
        print(f"{name} is published.")


@app.command()
def withdraw(
    name: Annotated[str, typer.Argument(help="The dataset's name.")], reason: Reason, home: Home = HERE
) -> None:
    """Owner: show a dataset no longer. Approvals that name it stand until they are revoked."""
    with _owner(home) as owner:
        owner.withdraw(name, reason)
        print(f"{name} is withdrawn.")


@app.command()
def datasets(home: Home = HERE) -> None:
    """List the datasets: your own as an owner, the hospitals' as a researcher."""
    with _session(home) as session:
        print(repr(session.datasets()))


@app.command()
def propose(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="The study folder.")],
    to: Annotated[list[str], typer.Option(help="A steward's email; repeat for each.")],
    purpose: Annotated[str, typer.Option(help="What it is for.")],
    operator: Annotated[
        list[str],
        typer.Option(help="Email of who runs the coordinator (first), and of the parties'; repeat."),
    ],
    dataset: Annotated[
        list[str] | None, typer.Option(help="STEWARD=NAME, where a steward has published several; repeat.")
    ] = None,
    approver: Annotated[
        str | None, typer.Option(help="The steward who may release the model (default: the first).")
    ] = None,
    home: Home = HERE,
) -> None:
    """Researcher: put a study to the stewards of its hospitals."""
    from securefl.domain.errors import DatasetError

    named = {}
    for entry in dataset or []:
        steward, equals, name = entry.partition("=")
        if not equals:
            raise DatasetError(f"{entry!r} names no dataset: write STEWARD=NAME.")
        named[steward] = name
    with _researcher(home) as me:
        sent = me.propose(study, to, purpose=purpose, operators=operator, datasets=named, approver=approver)
        print(f"Proposed as {sent.name}.")


@app.command()
def status(
    name: Annotated[
        str | None, typer.Argument(metavar="[PROPOSAL]", help="One proposal; all without it.")
    ] = None,
    home: Home = HERE,
) -> None:
    """Researcher: how proposals stand at each hospital, and what the operators say."""
    with _researcher(home) as me:
        if name is None:
            print(repr(me.proposals()))
            return
        sent = me.proposal(name)
        print(repr(sent.status()))
        for operator, notice in sent.notices().items():
            print(
                f"{operator} ({notice['member']}): {notice['state']}"
                + (f", {notice['reason']}" * bool(notice["reason"]))
            )


@app.command()
def requests(home: Home = HERE) -> None:
    """Owner: list what was proposed to you."""
    with _owner(home) as owner:
        print(repr(owner.requests()))


@app.command()
def review(name: Name, home: Home = HERE) -> None:
    """Owner: print every byte that would run, the data it touches, who would take part, the privacy cost."""
    with _owner(home) as owner:
        print(owner.request(name).review())


@app.command()
def approve(
    name: Name,
    reason: Reason,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it holds.")] = 90,
    epsilon: Annotated[
        float | None, typer.Option(help="Most that it may spend (default: what the study promises).")
    ] = None,
    home: Home = HERE,
) -> None:
    """Owner: allow it, for one run."""
    with _owner(home) as owner:
        owner.request(name).approve(reason, days=days, epsilon=epsilon)
        print(f"{name} is approved.")


@app.command()
def deny(name: Name, reason: Reason, home: Home = HERE) -> None:
    """Owner: refuse it."""
    with _owner(home) as owner:
        owner.request(name).deny(reason)
        print(f"{name} is denied.")


@app.command()
def revoke(
    name: Name,
    reason: Reason,
    keep_peer: Annotated[
        bool, typer.Option("--keep-peer", help="Leave the researcher among your peers.")
    ] = False,
    home: Home = HERE,
) -> None:
    """Owner: take an approval back, and put the researcher out."""
    with _owner(home) as owner:
        owner.revoke(name, reason, keep_peer=keep_peer)
        print(f"{name} is revoked.")


@app.command("share-log")
def share_log(name: Name, reason: Reason, home: Home = HERE) -> None:
    """Owner: hand the log of a proposal's last run to its researcher. Read it first: HOME/runs/…/log."""
    with _owner(home) as owner:
        owner.request(name).share_log(reason)
        print(f"The log of {name} is shared.")


@app.command()
def serve(
    seconds: Annotated[
        float | None, typer.Option(min=0, help="Stop after so long (default: when interrupted).")
    ] = None,
    home: Home = HERE,
) -> None:
    """Owner: run approved studies, nothing else. Operator: run your member, and launch what all have approved."""
    import signal

    # What a service manager sends: end as at Ctrl-C, with everything that was started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _session(home) as session:
        if not hasattr(session, "serve"):
            raise _other(session, "serves nothing")
        session.serve(seconds)


@app.command()
def logs(name: Name, home: Home = HERE) -> None:
    """Researcher: print the logs that stewards have handed out."""
    from securefl.plain_text import plain

    with _researcher(home) as me:
        for hospital, text in me.proposal(name).logs().items():
            print(f"== {hospital} ==\n{plain(text)}")


@app.command()
def launch(
    name: Name,
    home: Home = HERE,
) -> None:
    """Researcher: ask the operators to run a proposal that all hospitals have approved."""
    with _researcher(home) as me:
        me.proposal(name).launch()
        print(f"{name} is with its operators.")


@app.command()
def releases(home: Home = HERE) -> None:
    """Owner: list finished runs whose model you may release."""
    with _owner(home) as owner:
        print(repr(owner.releases()))


@app.command()
def release(name: Name, reason: Reason, home: Home = HERE) -> None:
    """Owner: check a finished run's whole record, and release its model to the researcher."""
    with _owner(home) as owner:
        found = _release(owner, name)
        record = found.approve(reason)
        print(record.sentence)
        print(f"The process that checked it was {record.confinement}.")
        print(f"The model of {name} is released.")


@app.command()
def withhold(name: Name, reason: Reason, home: Home = HERE) -> None:
    """Owner: keep a finished run's model from the researcher."""
    with _owner(home) as owner:
        _release(owner, name).withhold(reason)
        print(f"The model of {name} is withheld.")


@app.command()
def result(name: Name, out: Annotated[Path, typer.Option(help="Folder to make.")], home: Home = HERE) -> None:
    """Researcher: take a released model with its receipts. Check it with `securefl verify`."""
    with _researcher(home) as me:
        me.proposal(name).result(out)
        print(f"{out} holds the run; check it with: securefl verify {out}")


@app.command()
def log(
    verify: Annotated[bool, typer.Option("--verify", help="Check every line's signature and place.")] = False,
    home: Home = HERE,
) -> None:
    """Print your audit log; with --verify, fail on the first line that was removed or changed."""
    import time

    from securefl.domain.log import verify as verify_log
    from securefl.plain_text import plain

    with _session(home) as session:
        entries = (
            verify_log(session.home, session.identity.signing.public).entries
            if verify
            else session.log.entries()
        )
        for entry in entries:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(entry.time))
            about = entry.facts.get("proposal") or entry.facts.get("peer") or entry.facts.get("dataset") or ""
            print(
                plain(
                    f"{entry.number:>5} {when} {entry.actor:<32} {entry.action:<18} {about} {entry.reason}"
                ).rstrip()
            )
        if verify:
            print(f"All {len(entries)} lines are whole, in order and signed by {session.email}.")


def _session(home: Path) -> Any:
    from securefl.domain.settings import HomeSettings

    return HomeSettings.load(home).open(home)


def _owner(home: Path) -> Owner:
    from securefl.domain.owner_session import Owner

    return _checked(_session(home), Owner, "an owner's")


def _researcher(home: Path) -> Researcher:
    from securefl.domain.researcher_session import Researcher

    return _checked(_session(home), Researcher, "a researcher's")


def _checked(session: Any, kind: Any, whose: str) -> Any:
    if not isinstance(session, kind):
        raise _other(session, f"is not {whose} home, which this command needs")
    return session


def _other(session: Any, what: str) -> Exception:
    from securefl.domain.errors import DomainError

    return DomainError(f"{session.home} {what}.")


def _release(owner: Owner, name: str) -> Any:
    from securefl.domain.errors import ReleaseError

    for found in owner.releases():
        if found.name == name:
            return found
    raise ReleaseError(f"No finished run of {name} has arrived: see `securefl domain releases`.")
