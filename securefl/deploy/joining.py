"""Fills a folder with what its member decided to take part in: the consortium's public files, and a study.

Adversary: who hands out the files puts other keys into them, in a member's name.
Promise: a member's folder takes in no consortium that pins other keys than its own, and no study of other members.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from pathlib import Path

from securefl import consortium as members
from securefl import durable
from securefl.consortium import Member
from securefl.deploy import authority
from securefl.deploy.plan import SUPERNODES, plain_names, plan_folder
from securefl.deploy.render import render
from securefl.deploy.settings import CA_FILE, CARD_FILE, CONSORTIUM_FILE, DEPLOYMENT_FILE, Card
from securefl.errors import ConsortiumError, StudyError
from securefl.study import Study


def join(folder: Path, public: Path | None = None) -> Member | None:
    """Take the consortium's public files into a member's folder, and write its scripts and manifests.

    Args:
        folder: a member's own, or the coordinator's.
        public: what was handed out; None writes the scripts and manifests again, after an upgrade for example.

    Returns:
        The member as it is pinned; None for the coordinator.

    Raises:
        ConsortiumError: the consortium pins other keys for this member, or a file is missing or malformed; nothing
            is changed then.
        StudyError: the study in the folder cannot be one of this consortium; nothing is changed then.
    """
    if not (folder / CARD_FILE).exists() and (folder / SUPERNODES).is_dir():
        _take_in(folder, public)
        return None
    card = Card.load(folder / CARD_FILE)
    consortium = members.load((public or folder) / CONSORTIUM_FILE)
    pinned = consortium.member(card.member.name)
    if pinned.role != card.member.role or consortium.id != card.consortium:
        raise ConsortiumError(
            f"This folder is of {card.member.name}, a {card.member.role} of consortium {card.consortium}, and these "
            "files are of others: ask for the right ones."
        )
    _check_own_keys(folder / "keys" / pinned.name, pinned)
    _take_in(folder, public)
    # After `consortium rotate` the pinned keys are newer than the card.
    card.model_copy(update={"member": pinned}).save(folder / CARD_FILE)
    return pinned


def _check_own_keys(folder: Path, pinned: Member) -> None:
    keys = members.load_keys(folder, pinned)
    if keys.tls is None:
        return
    certificate = authority.certificates((pinned.certificate or "").encode())[0]
    if not authority.belongs(keys.tls, certificate):
        raise ConsortiumError(
            f"The TLS key in {folder} is not the one pinned for {pinned.name}: restore its keys, or rotate and pin "
            "anew."
        )


def _take_in(folder: Path, public: Path | None) -> None:
    # All that can be wrong with the files is found before the first of them is written.
    plan = plan_folder(folder, given=public)
    if public is not None:
        consortium = members.load(public / CONSORTIUM_FILE)
        plan.deployment.check(consortium)
        try:
            roots = (public / CA_FILE).read_bytes()
        except OSError as error:
            raise ConsortiumError(f"{public / CA_FILE} cannot be read: ask for it again.") from error
        authority.certificates(roots)
        members.save(consortium, folder / CONSORTIUM_FILE)
        plan.deployment.save(folder / DEPLOYMENT_FILE)
        durable.write(folder / CA_FILE, roots, mode=0o644)
    # The run folder holds the socket; study and data are there so that a container can be given them.
    for name in ("run", *plan.folders, *(["study"] if plan.role != "dealer" else [])):
        durable.private_folder(folder / name)
    if plan.role == "hospital":
        durable.private_folder(folder / "data")
    render(folder, plan)


def put_study(folder: Path, study: Path) -> str:
    """Copy a study into a member's or the coordinator's folder, in place of an older one.

    Returns:
        Its digest, for the steward to compare with the other members.

    Raises:
        StudyError: it is malformed, a simulation, has files of strange names, or names other members than this
            folder's; nothing is changed then.
        ConsortiumError: the folder is a dealer's, or none of `securefl deploy`.
    """
    if plan_folder(folder, with_study=False).role == "dealer":
        raise ConsortiumError("A dealer takes no study: it deals to the parties of any.")
    loaded = Study.load(study)
    consortium = members.load(folder / CONSORTIUM_FILE)
    if loaded.simulation or loaded.settings.consortium.file is None:
        raise StudyError(
            f"{study} is a simulation: give it `[consortium] file`, and take out `[simulation]`, before members run it."
        )
    named = members.load(loaded.folder / loaded.settings.consortium.file)
    if named.digest() != consortium.digest():
        raise StudyError(
            f"{study} names other members or keys than {folder}: copy its {CONSORTIUM_FILE} there."
        )
    plain_names(loaded)
    fresh = folder / f".study.{secrets.token_hex(4)}"
    old = fresh.with_name(f"{fresh.name}.old")
    try:
        loaded.copy_to(fresh)
        with contextlib.suppress(FileNotFoundError):
            (folder / "study").rename(old)
        fresh.rename(folder / "study")
        durable.sync_folder(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    render(folder, plan_folder(folder))
    return loaded.digest(consortium.digest()).hex()
