"""A mutant whose past can be read: envelopes are sealed to keys that their recipients still have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocols.errors import SealError
from securefl.audit.hostile import context, same, try_round
from securefl.audit.mutants.naive_hospital import contribution, opened_with
from securefl.audit.registry import Finding, Mutant
from securefl.audit.stage import Stage, staged
from securefl.audit.stage_cast import HOSPITALS, PARTIES
from securefl.roles.messages import Announcement

_X25519_BYTES = 32


@dataclass(frozen=True)
class Seized:
    """What a thief has who recorded a round's envelopes, and took every party's disk and keys after its outcome.

    Attributes:
        recovered, coordinates: of all hospitals' updates.
        searched: places on the disks that were tried as a private key.
        round_keys: private round keys (their X25519 halves) that lay there.
    """

    recovered: int
    coordinates: int
    searched: int
    round_keys: int


def _to_pinned_keys(stage: Stage, announcement: Announcement) -> Announcement:
    """The naive announcement: the parties' long-term keys in place of those of the round."""
    keys = [
        signed.model_copy(
            update={"key": signed.key.model_copy(update={"public": _pinned(stage, signed.key.party)})}
        )
        for signed in announcement.keys
    ]
    return announcement.model_copy(update={"keys": keys})


def _pinned(stage: Stage, party: str) -> bytes:
    return stage.people.consortium.member(party).sealing_key


def _seize(long_lived: bool) -> Seized:
    with staged() as stage:
        stage.play_to_round_1()
        updates = {hospital: stage.update(hospital) for hospital in HOSPITALS}
        tried = try_round(stage, context(stage))
        if tried.announcement is None or tried.contributions is None or tried.settled is None:
            raise SealError(f"The round was not opened: {', '.join(sorted(tried.reasons))}.")
        announcement, recorded = tried.announcement, dict(tried.contributions)
        if long_lived:
            announcement = _to_pinned_keys(stage, announcement)
            recorded = {h: contribution(stage, h, updates[h], announcement) for h in HOSPITALS}
        stage.ask_all(dict.fromkeys(PARTIES, tried.settled))  # the round is over, its keys are to be gone
        keys = {party: stage.people.keys[party].sealing for party in PARTIES}
        recovered = 0
        for hospital, message in recorded.items():
            try:
                recovered += same(opened_with(keys, announcement, message), updates[hospital])
            except SealError:
                continue
        publics = {signed.key.public[-_X25519_BYTES:] for signed in announcement.keys}
        places = (
            set()
            if long_lived
            else _places(
                [stage.store(p).path("") for p in PARTIES] + [stage.ledger(p).path("") for p in PARTIES]
            )
        )
        found = sum(
            X25519PrivateKey.from_private_bytes(p).public_key().public_bytes_raw() in publics for p in places
        )
        return Seized(recovered, len(HOSPITALS) * announcement.context.size, len(places), found)


def _places(folders: list[Path]) -> set[bytes]:
    """Every 32 bytes in a row in these folders' files."""
    found = set()
    for file in (file for folder in folders for file in folder.rglob("*") if file.is_file()):
        data = file.read_bytes()
        found |= {data[i : i + _X25519_BYTES] for i in range(len(data) - _X25519_BYTES + 1)}
    return found


def _seizure_breaks() -> Finding:
    seized = _seize(long_lived=True)
    said = (
        f"The parties' pinned keys opened the round's envelopes after its outcome: {seized.recovered} of "
        f"{seized.coordinates} coordinates of all hospitals' updates."
    )
    return Finding(seized.recovered == seized.coordinates, said, {"recovered": seized.recovered})


def _seizure_caught() -> Finding:
    seized = _seize(long_lived=False)
    said = (
        f"The pinned keys opened {seized.recovered} of {seized.coordinates} coordinates, and none of the "
        f"{seized.searched} places on the parties' disks holds a round's key ({seized.round_keys} found)."
    )
    numbers = {"recovered": seized.recovered, "searched": seized.searched, "round_keys": seized.round_keys}
    return Finding(not seized.recovered and not seized.round_keys and seized.searched > 0, said, numbers)


MUTANTS = (
    Mutant(
        "long-lived-keys",
        "past-rounds-stay-sealed",
        "Hospitals seal their shares to the parties' pinned long-term keys.",
        _seizure_breaks,
        _seizure_caught,
    ),
)
