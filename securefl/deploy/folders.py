"""Makes the folders. A target is either wholly made or not there: all is written beside it, and then renamed.

Two ways lead to the same folders. ``init`` makes all at once; whoever runs it has then held every private key. In
earnest each member makes its own (``make_member_folder``) and sends its card; one gathers the cards (``gather``) and
hands back files without a secret; each member takes them in (``securefl.deploy.joining``).
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from protocols.certificates import check_party_certificate
from protocols.errors import ProtocolError
from securefl import consortium as members
from securefl import durable
from securefl.consortium import Consortium, Member, Role
from securefl.deploy import authority
from securefl.deploy.joining import join
from securefl.deploy.plan import SUPERLINK_KEY, SUPERNODE_KEY, SUPERNODES
from securefl.deploy.render import render_whole, write_dockerfile
from securefl.deploy.settings import (
    AUTHORITY,
    CA_FILE,
    CARD_FILE,
    CONSORTIUM_FILE,
    COORDINATOR,
    DEPLOYMENT_FILE,
    LOCAL_PORT,
    PUBLIC,
    RESERVED,
    Card,
    Deployment,
    host_of,
)
from securefl.errors import ConsortiumError
from securefl.member import MEMBER_FILE, Places
from securefl.toml_file import first_complaint

CA_KEY = "ca.key"


def init(
    out: Path,
    hospitals: Sequence[str],
    parties: Sequence[str],
    superlink: str,
    mesh: Mapping[str, str],
    dealer: str | None = None,
    image: str | None = None,
    local_port: int = LOCAL_PORT,
) -> Consortium:
    """Make a whole consortium: one folder for each member, one for the coordinator, one for the authority.

    Args:
        out: must not exist, or be empty.
        hospitals, parties, dealer: names; the parties in the order of their ranks.
        superlink: ``host:port`` of the coordinator's SuperLink, as members reach it.
        mesh: ``host:port`` of each party and of the dealer.
        image: of the containers, unless the default.
        local_port: first of the SuperNodes' own interfaces, on 127.0.0.1.

    Raises:
        ConsortiumError: bad, doubled or too few names, a bad address, or ``out`` holds something; nothing is written.
    """
    _check_names([*hospitals, *parties, *([dealer] if dealer else [])])
    deployment = _deployment(superlink, mesh, image, local_port)
    with _whole(out) as made:
        durable.private_folder(made / PUBLIC)
        consortium = members.create(made / PUBLIC, hospitals, parties, dealer)
        ranks = [*consortium.parties, *([dealer] if dealer else [])]
        cards = []
        for member in consortium.members:
            folder = durable.private_folder(made / member.name)
            durable.private_folder(folder / "keys")
            (made / PUBLIC / "keys" / member.name).rename(folder / "keys" / member.name)
            rank = ranks.index(member.name) if member.name in ranks else 0
            cards.append(_finish_member(folder, member, rank, consortium.id))
        (made / PUBLIC / "keys").rmdir()
        _publish(made, cards, consortium, deployment)
        for member in consortium.members:
            join(made / member.name, made / PUBLIC)
        names = [COORDINATOR, *(m.name for m in consortium.members)]
        render_whole(made, names, on_one_computer=not deployment.same_port())
    return consortium


def make_member_folder(out: Path, name: str, role: Role, rank: int, consortium_id: str) -> Card:
    """Make one member's own folder and keys, and its public card.

    Args:
        out: must not exist, or be empty.
        name, role: of the member.
        rank: place on the mesh: a party's from 0, then the dealer's; 0 for a hospital.
        consortium_id: 16 hexadecimal digits that the members agreed on.

    Raises:
        ConsortiumError: a bad name or identity, or ``out`` holds something; nothing is written then.
    """
    _check_names([name])
    if len(consortium_id) != 16 or set(consortium_id) - set("0123456789abcdef"):
        raise ConsortiumError(
            f"{consortium_id!r} is not a consortium's identity: agree on 16 hexadecimal digits (openssl rand -hex 8)."
        )
    if role == "hospital" and rank != 0:
        raise ConsortiumError("A hospital has no rank: leave it out.")
    with _whole(out) as made:
        durable.private_folder(made / "keys")
        member = members.make_member(name, role, rank, consortium_id, made / "keys" / name)
        card = _finish_member(made, member, rank, consortium_id)
    return card


def _finish_member(folder: Path, member: Member, rank: int, consortium_id: str) -> Card:
    """What a member's folder has besides its consortium keys, before it has joined."""
    public = None
    if member.role != "dealer":
        private, public = authority.make_supernode_key()
        durable.write(folder / "keys" / SUPERNODE_KEY, private)
        Places(name=member.name, role=member.role).save(folder / MEMBER_FILE)
    card = Card(consortium=consortium_id, rank=rank, supernode=public, member=member)
    card.save(folder / CARD_FILE)
    return card


def gather(
    out: Path,
    cards: Sequence[Path],
    superlink: str,
    mesh: Mapping[str, str],
    image: str | None = None,
    local_port: int = LOCAL_PORT,
) -> Consortium:
    """Pin the members of these cards; make the coordinator's folder, the authority's, and ``public`` for everybody.

    Raises:
        ConsortiumError: cards of different consortia, doubled, too few or malformed ones, or ``out`` holds something;
            nothing is written then.
    """
    loaded = [Card.load(path) for path in cards]
    _check_names([card.member.name for card in loaded])
    consortium = _pin(loaded)
    deployment = _deployment(superlink, mesh, image, local_port)
    with _whole(out) as made:
        durable.private_folder(made / PUBLIC)
        members.save(consortium, made / PUBLIC / CONSORTIUM_FILE)
        _publish(made, loaded, consortium, deployment)
    return consortium


def _pin(cards: Sequence[Card]) -> Consortium:
    identities = sorted({card.consortium for card in cards})
    if len(identities) != 1:
        raise ConsortiumError(
            f"The cards are of {len(identities)} consortia: gather cards that were made with the same identity."
        )
    by_role = {
        role: [card for card in cards if card.member.role == role] for role in ("party", "dealer", "hospital")
    }
    on_mesh = sorted(by_role["party"], key=lambda card: card.rank) + by_role["dealer"]
    if len(by_role["party"]) < 2 or len(by_role["hospital"]) < 2:
        raise ConsortiumError(
            "A consortium needs two parties and two hospitals at least, not "
            f"{len(by_role['party'])} and {len(by_role['hospital'])}."
        )
    if [card.rank for card in on_mesh] != list(range(len(on_mesh))):
        raise ConsortiumError(
            "The parties' ranks must be 0, 1, 2 and so on, then the dealer's, not "
            f"{', '.join(f'{card.rank} of {card.member.name}' for card in on_mesh)}."
        )
    for card in on_mesh:
        try:
            check_party_certificate((card.member.certificate or "").encode(), card.rank, card.consortium)
        except ProtocolError as error:
            raise ConsortiumError(f"The card of {card.member.name} cannot be pinned. {error}") from error
    ordered = [*on_mesh, *sorted(by_role["hospital"], key=lambda card: card.member.name)]
    supernodes = [card.supernode for card in cards if card.supernode]
    if len(set(supernodes)) != len(supernodes):
        raise ConsortiumError("Two members have the same SuperNode key: give each its own.")
    consortium = Consortium(id=identities[0], epoch=1, members=[card.member for card in ordered])
    consortium.check()
    return consortium


def _publish(made: Path, cards: Sequence[Card], consortium: Consortium, deployment: Deployment) -> None:
    """The authority, the coordinator's folder and ``public``, where ``consortium.toml`` stands already."""
    deployment.check(consortium)
    key, certificate = authority.make_authority()
    durable.write(made / AUTHORITY / CA_KEY, key)
    durable.write(made / AUTHORITY / CA_FILE, certificate, mode=0o644)
    durable.write(made / PUBLIC / CA_FILE, certificate, mode=0o644)
    deployment.save(made / PUBLIC / DEPLOYMENT_FILE)
    write_dockerfile(made / PUBLIC)
    coordinator = durable.private_folder(made / COORDINATOR)
    superlink = authority.make_superlink(host_of(deployment.superlink), key, certificate)
    durable.write(coordinator / "keys" / SUPERLINK_KEY, superlink)
    for card in cards:
        if card.supernode is not None:
            durable.write(
                coordinator / SUPERNODES / f"{card.member.name}.pub",
                f"{card.supernode}\n".encode(),
                mode=0o644,
            )
    join(coordinator, made / PUBLIC)


def _check_names(names: Sequence[str]) -> None:
    members.check_names(names)
    for name in names:
        if name in RESERVED or name.endswith("-"):
            raise ConsortiumError(
                f"{name!r} cannot be a member's name here: {', '.join(RESERVED)} are other folders, and a container's "
                "name ends with a letter or digit."
            )


def _deployment(superlink: str, mesh: Mapping[str, str], image: str | None, local_port: int) -> Deployment:
    named = {"image": image} if image else {}
    try:
        return Deployment(superlink=superlink, mesh=dict(mesh), local_port=local_port, **named)
    except ValidationError as error:
        raise ConsortiumError(f"The addresses cannot be used: {first_complaint(error)}.") from error


@contextlib.contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` to write in; it becomes ``out`` at the end, or is removed."""
    out = out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConsortiumError(f"{out} is not empty: choose another folder, so that no key is overwritten.")
    made = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    durable.private_folder(made)
    try:
        yield made
        made.rename(out)
        durable.sync_folder(out.parent)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
