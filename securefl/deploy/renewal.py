"""New certificates before the old ones end. Old and new are valid side by side, so that nobody must act at once."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from securefl import durable
from securefl.deploy import authority
from securefl.deploy.folders import CA_KEY
from securefl.deploy.plan import SUPERLINK_KEY
from securefl.deploy.settings import CA_FILE, DEPLOYMENT_FILE, Deployment, host_of
from securefl.errors import ConsortiumError


@dataclass(frozen=True)
class Renewed:
    """What was renewed.

    Attributes:
        superlink_until: end of the SuperLink's new certificate.
        authority_until: end of the authority that signs the next one.
        roots: the new ``ca.pem`` that every member needs before the next renewal, if the authority changed.
    """

    superlink_until: datetime.datetime
    authority_until: datetime.datetime
    roots: Path | None = None


def renew(
    authority_folder: Path,
    coordinator: Path,
    days: int = authority.SUPERLINK_DAYS,
    new_authority: bool = False,
) -> Renewed:
    """Give the SuperLink a new key and certificate; take a new authority for the next time if asked.

    The certificate is signed by the authority that members know. With ``new_authority`` a new one then takes its
    place: ``ca.pem`` holds both, and members who have it by the next renewal notice nothing.

    Args:
        authority_folder: with ``ca.key`` and ``ca.pem``.
        coordinator: the coordinator's folder.
        days: the new certificate's validity; never beyond the authority's.

    Raises:
        ConsortiumError: a file is missing or damaged, or the authority has ended.
    """
    key, roots = _read(authority_folder / CA_KEY), _read(authority_folder / CA_FILE)
    until = authority.certificates(roots)[-1].not_valid_after_utc
    if until <= datetime.datetime.now(datetime.UTC):
        raise ConsortiumError(
            f"The authority ended on {until:%Y-%m-%d}: gather the consortium anew, and hand its {CA_FILE} to all."
        )
    host = host_of(Deployment.load(coordinator / DEPLOYMENT_FILE).superlink)
    made = authority.make_superlink(host, key, roots, days)
    if new_authority:
        fresh_key, fresh = authority.make_authority()
        roots = authority.bundle(roots, fresh)
        # Between these two writes the folder would hold a key of another certificate; a repetition would say so.
        durable.write(authority_folder / CA_KEY, fresh_key)
        durable.write(authority_folder / CA_FILE, roots, mode=0o644)
        durable.write(coordinator / CA_FILE, roots, mode=0o644)
    durable.write(coordinator / "keys" / SUPERLINK_KEY, made)
    return Renewed(
        authority.certificates(made)[0].not_valid_after_utc,
        authority.certificates(roots)[-1].not_valid_after_utc,
        authority_folder / CA_FILE if new_authority else None,
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConsortiumError(f"{path} cannot be read: {(error.strerror or 'unknown').lower()}.") from error
