"""What each person of the consortium scripts: a steward, a researcher, an operator. Copy from here.

``make consortium`` starts each of them as a process of its own; ``walkthrough.py`` stages that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from securefl import domain

Fingerprints = Mapping[str, str]
"""By email, as they were read out over the telephone."""


def steward(
    email: str,
    home: Path,
    relay: Path,
    hospital: Path,
    data: Path,
    peers: Fingerprints,
    tell: Callable[[str], None],
) -> None:
    """Publish, accept, review, decide, serve; revoke, or release, if it comes to that."""
    with domain.owner(email, home=home, relay=relay, hospital=hospital) as me, me.serving() as serving:
        for peer, fingerprint in peers.items():
            me.accept(peer, fingerprint)
        me.publish(
            "heart-2026",
            private=data / "private",
            mock=data / "mock",
            description="Heart patients, ten columns",
        )
        tell("publishes heart-2026: its description and mock data go out, the records stay")
        for _ in every(2):
            serving.step()
            for request in me.requests():
                if request.state == "pending":
                    decide(email, request, tell)
                if (
                    email.startswith("switzerland")
                    and request.state == "running"
                    and request.rounds_done >= 3
                ):
                    request.revoke("A patient has withdrawn consent.")
                    tell("revokes its approval after round 3: a patient has withdrawn consent")
            for release in me.releases():
                if release.state == "waiting":
                    tell(f"checks the finished run: {release.verify().sentence}")
                    release.approve("The record is whole; the ethics board agrees.")
                    tell("releases the model, with its receipts")


def decide(email: str, request, tell: Callable[[str], None]) -> None:  # type: ignore[no-untyped-def]
    """Read all of it, and decide."""
    text = str(request.review())
    tell(f"reviews {request.name}: {len(text.splitlines())} lines, every byte that would run")
    if email.startswith("va") and "No sum over fewer than 2 hospitals" in text:
        request.deny("A sum over two hospitals says too much about ours: ask for three.")
        tell("denies it: a sum over two hospitals says too much about ours")
    else:
        request.approve("IRB 2026-117", days=30)
        tell("approves it for 30 days, one run")


def researcher(
    email: str, home: Path, relay: Path, study: Path, peers: Fingerprints, stewards: list[str], operators: list[str],
    out: Path, tell: Callable[[str], None],
) -> None:  # fmt: skip
    """Look at mock data, propose, listen, propose again, launch, take the released model."""
    with domain.researcher(email, home=home, relay=relay) as me:
        for peer, fingerprint in peers.items():
            me.accept(peer, fingerprint)
        for _ in every(2):
            if len(me.datasets()) == len(stewards):
                break
        tell(f"sees {len(stewards)} datasets, mock data only")
        text = (study / "study.toml").read_text()
        for minimum in ("2", "3"):
            (study / "study.toml").write_text(
                text.replace("minimum_hospitals = 2", f"minimum_hospitals = {minimum}")
            )
            proposal = me.propose(study, to=stewards, purpose="Who has heart disease?", operators=operators)
            tell(f"proposes {proposal.name}: no sum over fewer than {minimum} hospitals")
            for _ in every(2):
                if all(status.state != "pending" for status in proposal.status()):
                    break
            denied = [status for status in proposal.status() if status.state == "denied"]
            if not denied:
                break
            tell(f"is refused by {denied[0].hospital}: {denied[0].reason} The study is changed.")
        domain.launch(proposal)
        tell("launches it: all have approved")
        shown = None
        for _ in every(2):
            if (status := repr(list(proposal.status()))) != shown:
                tell(f"sees {status.strip('[]')}")
                shown = status
            if proposal.released:
                break
        tell(f"takes the model and its receipts: {proposal.result(out)}")


def operator(
    email: str, home: Path, relay: Path, folder: Path, peers: Fingerprints, tell: Callable[[str], None]
) -> None:
    """Run the coordinator or a party, and launch what all hospitals have approved."""
    with domain.operator(email, home=home, relay=relay, folder=folder) as me:
        for peer, fingerprint in peers.items():
            me.accept(peer, fingerprint)
        tell(f"runs {folder.name}")
        me.serve()


def every(seconds: float) -> Iterator[None]:
    """Again and again, until the loop is left."""
    while True:
        yield
        time.sleep(seconds)
