"""Who takes part, and which keys are theirs.

``consortium.toml`` pins every member's public keys; it is part of a study's digest, so that nobody, the coordinator
included, can hand out a key that was not pinned. Private keys lie in one folder a member, mode 0600, and go nowhere.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

from protocols.canonical import digest
from protocols.certificates import make_party_certificate
from protocols.envelope import PUBLIC_BYTES, SealingKey
from protocols.errors import EncodingError
from protocols.signing import SigningKey
from securefl import durable
from securefl.errors import ConsortiumError
from securefl.study.settings import MemberName, Settings
from securefl.toml_file import load_toml

Base64 = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]+={0,2}$")]
Role = Literal["hospital", "party", "dealer"]
ON_THE_MESH = ("party", "dealer")
K = TypeVar("K", SigningKey, SealingKey)
SIGNING_FILE, SEALING_FILE, TLS_FILE = "signing.key", "sealing.key", "tls.key"
FILE = "consortium.toml"


class Member(Settings):
    """A member's public card: what the others pin."""

    name: MemberName
    role: Role
    signing: Base64 = Field(description="Ed25519 public key, base64")
    sealing: Base64 = Field(description="ML-KEM-768 + X25519 public key, base64")
    certificate: str | None = Field(None, description="party and dealer: its TLS certificate, PEM")

    @property
    def signing_key(self) -> bytes:
        """The 32 bytes that its signatures verify under."""
        return base64.b64decode(self.signing)

    @property
    def sealing_key(self) -> bytes:
        """The 1,216 bytes that envelopes to it are sealed to."""
        return base64.b64decode(self.sealing)

    @property
    def fingerprint(self) -> str:
        """A short name of all its keys, to read out over the telephone."""
        hexed = digest("member", self.model_dump()).hex()[:24]
        return " ".join(hexed[i : i + 4] for i in range(0, 24, 4))


class Consortium(Settings):
    """The members and their pinned keys. The parties' order is their rank."""

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
    epoch: int = Field(ge=1, le=10**6, description="how often a key was changed, plus one")
    members: list[Member]

    @property
    def hospitals(self) -> dict[str, Member]:
        """Hospitals by name, in the order of their names."""
        return {m.name: m for m in sorted(self.members, key=lambda m: m.name) if m.role == "hospital"}

    @property
    def parties(self) -> dict[str, Member]:
        """Parties by name, in the order of their ranks."""
        return {m.name: m for m in self.members if m.role == "party"}

    @property
    def dealer(self) -> Member | None:
        """Who deals correlated randomness to the parties, if there is somebody; its rank is the number of parties."""
        return next((m for m in self.members if m.role == "dealer"), None)

    @property
    def certificates(self) -> list[bytes]:
        """The certificates on the committee's channel, by rank: the parties', then the dealer's."""
        on_the_mesh = [*self.parties.values(), *([self.dealer] if self.dealer else [])]
        return [(m.certificate or "").encode() for m in on_the_mesh]

    def member(self, name: str) -> Member:
        """The member of that name; ConsortiumError if there is none."""
        for member in self.members:
            if member.name == name:
                return member
        raise ConsortiumError(f"{name} is not a member of this consortium: its members are {self._names()}.")

    def digest(self) -> bytes:
        """32 bytes that name these members with these keys."""
        return digest("consortium", self.model_dump())

    def _names(self) -> str:
        return ", ".join(m.name for m in self.members)

    def check(self) -> None:
        """Raise ConsortiumError for doubled names or keys, or keys of the wrong size."""
        for what in ("name", "signing", "sealing"):
            values = [getattr(m, what) for m in self.members]
            if len(set(values)) != len(values):
                raise ConsortiumError(f"Two members have the same {what}: give each its own.")
        for member in self.members:
            try:
                sizes = (len(member.signing_key), len(base64.b64decode(member.sealing)))
            except ValueError:
                sizes = (0, 0)
            if sizes != (32, PUBLIC_BYTES):
                raise ConsortiumError(f"The keys of {member.name} have the wrong size: pin its card again.")
            if (member.role in ON_THE_MESH) != (member.certificate is not None):
                raise ConsortiumError(
                    f"{member.name}: a party and a dealer have a TLS certificate, a hospital has none."
                )
        if sum(m.role == "dealer" for m in self.members) > 1:
            raise ConsortiumError("A consortium has one dealer at most: remove the others.")


@dataclass(frozen=True)
class MemberKeys:
    """A member's private keys. Nothing in it shows in a ``repr``."""

    signing: SigningKey
    sealing: SealingKey
    tls: bytes | None = field(repr=False)


def make_member(name: str, role: Role, rank: int, consortium_id: str, folder: Path) -> Member:
    """Make a member's keys in ``folder`` and return its public card.

    Raises:
        ConsortiumError: the folder already holds keys.
    """
    if (folder / SIGNING_FILE).exists():
        raise ConsortiumError(
            f"{folder} already holds keys: choose another folder, or rotate the member's keys."
        )
    durable.private_folder(folder)
    signing, sealing = SigningKey.generate(), SealingKey.generate()
    certificate = None
    if role in ON_THE_MESH:
        made = make_party_certificate(rank, consortium_id)
        durable.write(folder / TLS_FILE, made.private_key_pem)
        certificate = made.certificate_pem.decode()
    durable.write(folder / SIGNING_FILE, base64.b64encode(signing.private_bytes()))
    durable.write(folder / SEALING_FILE, base64.b64encode(sealing.private_bytes()))
    return Member(
        name=name,
        role=role,
        signing=base64.b64encode(signing.public).decode(),
        sealing=base64.b64encode(sealing.public).decode(),
        certificate=certificate,
    )


def create(
    folder: Path, hospitals: Sequence[str], parties: Sequence[str], dealer: str | None = None
) -> Consortium:
    """Make a consortium with new keys: ``folder/consortium.toml`` and ``folder/keys/NAME/``.

    The consortium file is written last, so that an interrupted creation leaves none. A dealer is needed where norms
    are to be checked.

    Raises:
        ConsortiumError: bad, doubled or too few names, or something stands there already; nothing is written then.
    """
    dealers = [] if dealer is None else [dealer]
    check_names([*parties, *dealers, *hospitals])
    if len(parties) < 2 or len(hospitals) < 2:
        raise ConsortiumError(
            f"A consortium needs two parties and two hospitals at least, not {len(parties)} and {len(hospitals)}."
        )
    if (folder / FILE).exists():
        raise ConsortiumError(
            f"{folder} already holds a consortium: choose another folder, or rotate a member's keys."
        )
    consortium_id = secrets.token_hex(8)
    members = [make_member(n, "party", i, consortium_id, folder / "keys" / n) for i, n in enumerate(parties)]
    members += [make_member(n, "dealer", len(parties), consortium_id, folder / "keys" / n) for n in dealers]
    members += [make_member(n, "hospital", 0, consortium_id, folder / "keys" / n) for n in hospitals]
    consortium = Consortium(id=consortium_id, epoch=1, members=members)
    consortium.check()
    save(consortium, folder / FILE)
    return consortium


def check_names(names: Sequence[str]) -> None:
    """Raise ConsortiumError unless each can be a member's name, and no two are the same. A name becomes a folder."""
    for name in names:
        try:
            TypeAdapter(MemberName).validate_python(name)
        except ValidationError as error:
            raise ConsortiumError(
                f"{name!r} cannot be a member's name: use at most 32 lower case letters, digits and hyphens, a letter "
                "first."
            ) from error
    if len(set(names)) != len(names):
        raise ConsortiumError("Two members have the same name: give each its own.")


def rotate(folder: Path, name: str) -> Consortium:
    """Give a member new keys and pin them. The old private keys are gone; running studies must be closed first."""
    consortium = load(folder / FILE)
    old = consortium.member(name)
    ranks = [*consortium.parties, *([consortium.dealer.name] if consortium.dealer else [])]
    rank = ranks.index(name) if old.role in ON_THE_MESH else 0
    keys = folder / "keys" / name
    fresh = keys.with_name(f".{name}.{secrets.token_hex(4)}")
    card = make_member(name, old.role, rank, consortium.id, fresh)
    members = [card if m.name == name else m for m in consortium.members]
    changed = Consortium(id=consortium.id, epoch=consortium.epoch + 1, members=members)
    for key in sorted(fresh.iterdir()):
        durable.write(keys / key.name, key.read_bytes())
        key.unlink()
    fresh.rmdir()
    save(changed, folder / FILE)
    return changed


def load_keys(folder: Path, member: Member) -> MemberKeys:
    """Read a member's private keys and check them against its pinned card.

    Raises:
        ConsortiumError: a file is missing, readable by others, malformed, or not the pinned key.
    """
    signing = _key(SigningKey, folder / SIGNING_FILE, member.name)
    sealing = _key(SealingKey, folder / SEALING_FILE, member.name)
    if signing.public != member.signing_key or base64.b64encode(sealing.public).decode() != member.sealing:
        raise ConsortiumError(
            f"The keys in {folder} are not the ones pinned for {member.name}: restore its keys, or rotate and pin anew."
        )
    tls = _read_private(folder / TLS_FILE, member.name) if member.role in ON_THE_MESH else None
    return MemberKeys(signing, sealing, tls)


def load(path: Path) -> Consortium:
    """Read ``consortium.toml``."""
    consortium = load_toml(Consortium, path, "make one with `securefl consortium new`.")
    consortium.check()
    return consortium


def save(consortium: Consortium, path: Path) -> None:
    """Write ``consortium.toml``; it holds nothing secret."""
    head = ["# Pinned public keys. Part of every study's digest: a changed key is another study."]
    head += [f"id = {json.dumps(consortium.id)}", f"epoch = {consortium.epoch}", ""]
    tables = [_table("members", member.model_dump(exclude_none=True)) for member in consortium.members]
    durable.write(path, ("\n".join(head) + "\n" + "\n".join(tables)).encode(), mode=0o644)


def _table(name: str, values: Mapping[str, str]) -> str:
    # A JSON string is a valid TOML basic string for the characters that stand here.
    return f"[[{name}]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


def _read_private(path: Path, name: str) -> bytes:
    try:
        if path.stat().st_mode & 0o077:
            raise ConsortiumError(
                f"{path} can be read by others: run `chmod 600 {path}`, and rotate if it was copied."
            )
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ConsortiumError(
            f"{path} is missing: restore the keys of {name} from its backup, or rotate them with "
            "`securefl consortium rotate`."
        ) from error
    except OSError as error:
        raise ConsortiumError(f"{path} cannot be read: {(error.strerror or 'unknown').lower()}.") from error


def _key(kind: type[K], path: Path, name: str) -> K:
    try:
        return kind(base64.b64decode(_read_private(path, name), validate=True))
    except (ValueError, EncodingError) as error:
        raise ConsortiumError(f"{path} is damaged: restore the keys of {name}, or rotate them.") from error
