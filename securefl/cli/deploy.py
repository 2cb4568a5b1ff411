"""Commands that make, fill, renew and watch the folders from which a consortium runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

if TYPE_CHECKING:
    from securefl.consortium import Role

app = typer.Typer(
    help="Folders from which members run: processes, containers, Kubernetes.", no_args_is_help=True
)

FolderPath = Annotated[Path, typer.Argument(metavar="FOLDER", help="A member's or the coordinator's folder.")]
OutPath = Annotated[Path, typer.Option(help="Folder to make; must not exist, or be empty.")]
SuperLink = Annotated[str, typer.Option(help="host:port of the SuperLink, as members reach it.")]
Addresses = Annotated[
    list[str], typer.Option("--address", help="NAME=host:port of a party or the dealer; repeat for each.")
]
LocalPort = Annotated[
    int,
    typer.Option(
        min=1024, max=60000, help="First port of the SuperNodes' own interfaces, on 127.0.0.1 only."
    ),
]
Image = Annotated[str | None, typer.Option(help="The container image (default: securefl:VERSION).")]


@app.command()
def init(
    out: OutPath,
    hospital: Annotated[list[str], typer.Option(help="A hospital's name; repeat for each.")],
    party: Annotated[
        list[str], typer.Option(help="A party's name, in the order of the ranks; repeat for each.")
    ],
    superlink: SuperLink,
    address: Addresses,
    dealer: Annotated[
        str | None, typer.Option(help="The dealer's name, for studies that check norms: none of the others.")
    ] = None,
    image: Image = None,
    local_port: LocalPort = 9094,
) -> None:
    """Make a folder for every member, all at once. You will have held every private key: to try it out."""
    from securefl import deploy
    from securefl.deploy.settings import DEPLOYMENT_FILE, PUBLIC, Deployment

    made = deploy.init(out, hospital, party, superlink, _mesh(address), dealer, image, local_port)
    print(
        f"Made {out}: coordinator, authority, and a folder for each of {len(made.hospitals)} hospitals and "
        f"{len(made.parties)} parties{' and for the dealer' if made.dealer else ''}."
    )
    if same := Deployment.load(out / PUBLIC / DEPLOYMENT_FILE).same_port():
        print(
            f"No compose.yaml for all on one computer: {same[0]} has another's port. To try them out on one, make them "
            "again with a port for each."
        )
    print("Hand each member its own folder, and keep no copy: you have held every private key.")


@app.command()
def member(
    name: Annotated[str, typer.Argument(help="The member's name.")],
    role: Annotated[str, typer.Option(help="hospital, party or dealer.")],
    consortium: Annotated[
        str, typer.Option(help="16 hexadecimal digits that all agreed on: openssl rand -hex 8.")
    ],
    out: OutPath,
    rank: Annotated[
        int, typer.Option(min=0, max=1000, help="A party's rank, from 0; the dealer's comes after them.")
    ] = 0,
) -> None:
    """Make your own keys, in your own folder, and the card to send. The private keys go nowhere."""
    from securefl import deploy
    from securefl.deploy.settings import CARD_FILE
    from securefl.errors import ConsortiumError

    if role not in ("hospital", "party", "dealer"):
        raise ConsortiumError(f"{role!r} is no role: choose hospital, party or dealer.")
    card = deploy.make_member_folder(out, name, cast("Role", role), rank, consortium)
    print(f"Send {out / CARD_FILE} to whoever gathers the consortium; it holds nothing secret.")
    print(f"Fingerprint, to read out over the telephone: {card.member.fingerprint}")


@app.command()
def gather(
    cards: Annotated[list[Path], typer.Argument(metavar="CARD...", help="The members' card.toml files.")],
    out: OutPath,
    superlink: SuperLink,
    address: Addresses,
    image: Image = None,
    local_port: LocalPort = 9094,
) -> None:
    """Pin the members of these cards, and make the coordinator's folder and what every member is handed."""
    from securefl import deploy
    from securefl.deploy.settings import PUBLIC

    made = deploy.gather(out, cards, superlink, _mesh(address), image, local_port)
    for pinned in made.members:
        print(f"{pinned.name:<32} {pinned.role:<9} {pinned.fingerprint}")
    print(f"Compare these with every member, over another channel; then hand {out / PUBLIC} to all.")


@app.command()
def join(
    folder: FolderPath,
    public: Annotated[
        Path | None,
        typer.Argument(metavar="PUBLIC", help="The folder that was handed out; none after an upgrade."),
    ] = None,
) -> None:
    """Take the consortium's public files in, and write start.sh, compose.yaml and the manifests."""
    from securefl import deploy

    pinned = deploy.join(folder, public)
    print(f"{folder} is ready: put a study there with `securefl deploy study`, and start it with start.sh.")
    if pinned is not None:
        print(f"The consortium pins {pinned.name} as {pinned.fingerprint}.")


@app.command()
def study(
    folder: FolderPath,
    study_path: Annotated[Path, typer.Argument(metavar="STUDY", help="The study that was reviewed.")],
) -> None:
    """Copy a reviewed study into a member's folder. Start the member again afterwards."""
    from securefl import deploy

    digest = deploy.put_study(folder, study_path)
    print(f"Study digest, to compare with every other member: {digest}")


@app.command()
def renew(
    authority: Annotated[Path, typer.Argument(help="The authority's folder.")],
    coordinator: Annotated[Path, typer.Argument(help="The coordinator's folder.")],
    days: Annotated[
        int, typer.Option(min=1, max=3650, help="Validity of the SuperLink's certificate.")
    ] = 397,
    new_authority: Annotated[
        bool, typer.Option("--new-authority", help="Take a new authority from the next renewal on.")
    ] = False,
    drop_old: Annotated[
        bool,
        typer.Option(
            "--drop-old",
            help="After a theft: trust the newest authority alone, at once. Members need its ca.pem.",
        ),
    ] = False,
) -> None:
    """Give the SuperLink a new key and certificate; the old one stays valid until its end."""
    from securefl import deploy

    renewed = deploy.renew(authority, coordinator, days, new_authority, drop_old)
    print(f"The SuperLink's certificate is valid until {renewed.superlink_until:%Y-%m-%d}: start it again.")
    if renewed.roots is not None:
        print(
            f"Hand {renewed.roots} to every member {'at once' if drop_old else 'before the next renewal'}; the "
            f"{'only' if drop_old else 'new'} authority is valid until {renewed.authority_until:%Y-%m-%d}."
        )


@app.command()
def health(
    folder: FolderPath,
    process: Annotated[
        str | None, typer.Argument(help="superlink, supernode, party or dealer (default: all of the folder).")
    ] = None,
    ready: Annotated[
        bool, typer.Option("--ready", help="Ask also whether it can work, not only whether it lives.")
    ] = False,
) -> None:
    """Ask a member's running processes whether they are well; exit 1 with the reason if not."""
    from securefl import deploy

    for line in deploy.check(folder, process, ready):
        print(line)


@app.command("app")
def flower_app() -> None:
    """Print the folder of the Flower app that starts securefl, for `flwr run`."""
    from securefl.flower.bundle import app_folder

    print(app_folder())


def _mesh(addresses: list[str]) -> dict[str, str]:
    from securefl.errors import ConsortiumError

    mesh: dict[str, str] = {}
    for entry in addresses:
        name, equals, address = entry.partition("=")
        if not equals or not address:
            raise ConsortiumError(f"{entry!r} is not an address: write NAME=host:port.")
        if name in mesh:
            raise ConsortiumError(f"{name} has two addresses: give it one.")
        mesh[name] = address
    return mesh
