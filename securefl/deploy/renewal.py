"""New certificates before the old ones end. Old and new are valid side by side, so that nobody must act at once.

Unless a key was stolen: what an authority has signed is valid until the last member has let go of that authority.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from securefl import durable
from securefl.deploy import authority
from securefl.deploy.folders import CA_KEY
from securefl.deploy.plan import SUPERLINK_KEY
from securefl.deploy.settings import CA_FILE, DEPLOYMENT_FILE, PUBLIC, Deployment, host_of
from securefl.errors import ConsortiumError


@dataclass(frozen=True)
class Renewed:
    """What was renewed.

    Attributes:
        superlink_until: end of the SuperLink's new certificate.
        authority_until: end of the authority that signs the next one.
        roots: the new ``ca.pem``, if it changed: every member needs it before the next renewal, or at once if the old
            authority was dropped.
    """

    superlink_until: datetime.datetime
    authority_until: datetime.datetime
    roots: Path | None = None


def renew(
    authority_folder: Path,
    coordinator: Path,
    days: int = authority.SUPERLINK_DAYS,
    new_authority: bool = False,
    drop_old: bool = False,
) -> Renewed:
    """Give the SuperLink a new key and certificate; take a new authority for the next time if asked.

    The certificate is signed by the authority that members know. With ``new_authority`` a new one then takes its
    place: ``ca.pem`` holds both, and members who have it by the next renewal notice nothing.

    Args:
        authority_folder: with ``ca.key`` and ``ca.pem``.
        coordinator: the coordinator's folder.
        days: the new certificate's validity; never beyond the authority's.
        drop_old: after a theft: the newest authority, made now with ``new_authority``, signs at once, and ``ca.pem``
            holds it alone. Whoever has the new ``ca.pem`` refuses what an older key has signed, and who has not
            refuses the SuperLink.

    Raises:
        ConsortiumError: a file is missing or damaged, the authority has ended, or there is no older one to drop.
    """
    key, known = _read(authority_folder / CA_KEY), _read(authority_folder / CA_FILE)
    host = host_of(Deployment.load(coordinator / DEPLOYMENT_FILE).superlink)
    roots = known
    if drop_old and new_authority:
        key, roots = authority.make_authority()
    elif drop_old:
        roots = authority.newest(known)
        if len(authority.certificates(known)) == 1:
            raise ConsortiumError(
                "There is one authority alone, and no older one to drop: take a new one with it (--new-authority)."
            )
    until = authority.certificates(roots)[-1].not_valid_after_utc
    if until <= datetime.datetime.now(datetime.UTC):
        raise ConsortiumError(
            f"The authority ended on {until:%Y-%m-%d}: gather the consortium anew, and hand its {CA_FILE} to all."
        )
    made = authority.make_superlink(host, key, roots, days)
    if new_authority and not drop_old:
        key, fresh = authority.make_authority()
        roots = authority.bundle(known, fresh)
    if roots != known:
        # Between these two writes the folder would hold a key of another certificate; a repetition would say so.
        durable.write(authority_folder / CA_KEY, key)
        for folder in (authority_folder, coordinator, *_public(authority_folder, coordinator, known)):
            durable.write(folder / CA_FILE, roots, mode=0o644)
    durable.write(coordinator / "keys" / SUPERLINK_KEY, made)
    return Renewed(
        authority.certificates(made)[0].not_valid_after_utc,
        authority.certificates(roots)[-1].not_valid_after_utc,
        authority_folder / CA_FILE if roots != known else None,
    )


def _public(authority_folder: Path, coordinator: Path, known: bytes) -> list[Path]:
    """The folders beside these two that are handed out with one of these roots."""
    ours = set(authority.certificates(known))
    beside = {folder.absolute().parent / PUBLIC for folder in (authority_folder, coordinator)}
    return [
        folder
        for folder in sorted(beside)
        if (folder / CA_FILE).exists() and ours & set(authority.certificates(_read(folder / CA_FILE)))
    ]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConsortiumError(f"{path} cannot be read: {(error.strerror or 'unknown').lower()}.") from error
