"""The domain: who may run what on whose data. Syft carries and names things; what holds is decided here.

with domain.owner("steward@north.example", home="north/", relay="relay/") as north: ...
with domain.researcher("researcher@lab.example", home="researcher/", relay="relay/") as me: ...
with domain.operator("ops@hub.example", home="ops/", relay="relay/", folder="coordinator/") as ops: ...
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from securefl.domain.operator_session import Operator
    from securefl.domain.owner_session import Owner
    from securefl.domain.relay import Carrier
    from securefl.domain.researcher_session import Researcher, Sent

__all__ = ["launch", "operator", "owner", "researcher"]


def owner(
    email: str, home: str | Path, relay: str | Path | Carrier, hospital: str | Path | None = None
) -> Owner:
    """A steward's session.

    Args:
        email: the steward's.
        home: private folder of this steward.
        relay: the folder that all share, or another carrier of letters.
        hospital: the hospital's folder of ``securefl deploy`` (default: ``home/hospital``).
    """
    from securefl.domain.owner_session import Owner

    return Owner(email, home, relay, hospital)


def researcher(email: str, home: str | Path, relay: str | Path | Carrier) -> Researcher:
    """A researcher's session. Arguments as ``owner``'s."""
    from securefl.domain.researcher_session import Researcher

    return Researcher(email, home, relay)


def operator(email: str, home: str | Path, relay: str | Path | Carrier, folder: str | Path) -> Operator:
    """The session of who runs the coordinator or a party.

    Args:
        email, home, relay: as ``owner``'s.
        folder: the member's folder of ``securefl deploy``.
    """
    from securefl.domain.operator_session import Operator

    return Operator(email, home, relay, folder)


def launch(proposal: Sent) -> None:
    """Ask its operators to run a proposal that all its hospitals have approved.

    Raises:
        LaunchError: one has not.
    """
    proposal.launch()
