"""Folders: whole or not there, private, and no private key in two of them."""

from __future__ import annotations

import base64
import itertools
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from securefl import consortium as members
from securefl import deploy
from securefl.deploy.settings import AUTHORITY, PUBLIC, Card, Deployment
from securefl.errors import ConsortiumError, SecureFLError, StudyError
from securefl.member import Places
from tests.securefl.deploy.conftest import DEALER, FOLDERS, HOSPITALS, MESH, PARTIES, STUDY, SUPERLINK

PEM = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----(.*?)-----END", re.DOTALL)


def private_files(root: Path) -> dict[Path, bytes]:
    """Every file with a private key: by its place or by what stands in it."""
    found = {}
    for path in root.rglob("*"):
        if path.is_file() and (path.suffix == ".key" or PEM.search(path.read_bytes())):
            found[path] = path.read_bytes()
    return found


def forms(content: bytes) -> Iterator[bytes]:
    """A private key as it may stand somewhere: its text, the bytes below, and base64 of either, at any offset."""
    match = PEM.search(content)
    body = b"".join((match[1] if match else content).split())
    raw = base64.b64decode(body)
    yield body
    yield raw
    # Without the head of an encoding, which two keys of one kind share.
    core = raw[40:] if match else raw
    text = content[match.start(1) + 60 :] if match else content
    yield core
    for inner, shift in itertools.product((core, text), range(3)):
        yield base64.b64encode(b"\0" * shift + inner)[4:-4]


def leaks(root: Path) -> list[tuple[Path, Path]]:
    """Pairs of a private key's file and a file of another top-level folder in which any form of the key stands."""
    texts = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    squeezed = {path: b"".join(text.split()) for path, text in texts.items()}
    top = {path: path.relative_to(root).parts[0] for path in texts}
    found = []
    for key, content in private_files(root).items():
        wanted = list(forms(content))
        for path in texts:
            if top[path] != top[key] and any(
                form in text for form in wanted for text in (texts[path], squeezed[path])
            ):
                found.append((key, path))
    return found


def test_no_private_key_stands_in_two_folders(pristine):
    keys = private_files(pristine)
    # Two of each member, one TLS key of each party and the dealer, a SuperNode's of all but the dealer, two of TLS.
    assert len(keys) == 2 * 6 + 3 + 5 + 1 + 1
    assert leaks(pristine) == []


@pytest.mark.parametrize(
    "key", ["oslo/keys/oslo/signing.key", "uni/keys/uni/tls.key", "oslo/keys/supernode.key"]
)
@pytest.mark.parametrize("form", ["as it is", "raw", "base64 again", "shifted", "a Secret"])
def test_a_planted_key_is_found(made, key, form):
    content = (made / key).read_bytes()
    match = PEM.search(content)
    raw = base64.b64decode(b"".join((match[1] if match else content).split()))
    planted = {
        "as it is": content,
        "raw": b"before" + raw + b"after",
        "base64 again": b"data: " + base64.b64encode(raw),
        "a Secret": b"data:\n  key: " + base64.encodebytes(content).replace(b"\n", b"\n    "),
        "shifted": base64.b64encode(b"xy" + raw + b"z"),
    }[form]
    (made / "bergen" / "data" / "innocent.bin").write_bytes(planted)
    assert (made / key, made / "bergen" / "data" / "innocent.bin") in leaks(made)


def test_each_member_holds_its_own_keys_and_no_other(pristine):
    consortium = members.load(pristine / PUBLIC / "consortium.toml")
    for member in consortium.members:
        members.load_keys(pristine / member.name / "keys" / member.name, member)
        assert [p.name for p in (pristine / member.name / "keys").iterdir() if p.is_dir()] == [member.name]
    assert [p.name for p in (pristine / AUTHORITY).iterdir() if p.suffix == ".key"] == ["ca.key"]
    for folder in FOLDERS:
        assert not list((pristine / folder).rglob("ca.key"))


def test_modes(pristine):
    private = private_files(pristine)
    for path in pristine.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.is_dir():
            assert mode == 0o700, path
        elif path in private:
            assert mode == 0o600, path
        else:
            assert mode == (0o755 if path.suffix == ".sh" else 0o644), path
    assert stat.S_IMODE(pristine.stat().st_mode) == 0o700


def test_member_toml_is_what_a_member_starts_with(pristine):
    for name in [*HOSPITALS, *PARTIES]:
        places = Places.load(pristine / name / "member.toml")
        assert places.name == name
        assert places.role == ("hospital" if name in HOSPITALS else "party")
        assert (places.keys / name / "signing.key").exists()
        assert places.consortium.exists()
        assert places.study.is_dir()
    assert not (pristine / DEALER / "member.toml").exists()


def test_an_interrupted_init_leaves_nothing(tmp_path, monkeypatch):
    def full(*_args, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("securefl.deploy.folders.render_whole", full)
    with pytest.raises(OSError, match="No space"):
        deploy.init(tmp_path / "out", HOSPITALS, PARTIES, SUPERLINK, MESH, DEALER)
    assert list(tmp_path.iterdir()) == []


GOOD = {
    "hospitals": HOSPITALS,
    "parties": PARTIES,
    "superlink": SUPERLINK,
    "mesh": {name: MESH[name] for name in PARTIES},
}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"hospitals": ["oslo", "oslo"]}, "same name"),
        ({"hospitals": ["oslo", "uni"]}, "same name"),
        ({"hospitals": ["oslo"]}, "two parties and two hospitals"),
        ({"parties": ["uni"], "mesh": {"uni": MESH["uni"]}}, "two parties and two hospitals"),
        ({"hospitals": ["oslo", "../bergen"]}, "cannot be a member's name"),
        ({"hospitals": ["oslo", "Bergen"]}, "cannot be a member's name"),
        ({"hospitals": ["oslo", "bergen-"]}, "ends with a letter or digit"),
        ({"hospitals": ["oslo", "coordinator"]}, "are other folders"),
        ({"hospitals": ["oslo", "authority"]}, "are other folders"),
        ({"hospitals": ["oslo", "public"]}, "are other folders"),
        ({"superlink": "hub.example"}, "superlink"),
        ({"superlink": "hub.example:99999"}, "at most 65535"),
        ({"superlink": "$(id).example:80"}, "superlink"),
        ({"superlink": "https://hub.example:80"}, "superlink"),
        ({"superlink": MESH["uni"]}, "same address"),
        ({"mesh": {"uni": MESH["uni"]}}, "registry has no address"),
        ({"mesh": {name: MESH[name] for name in [*PARTIES, DEALER]}}, "neither a party nor the dealer"),
        ({"image": "securefl:1\nservices: {}"}, "image"),
        ({"image": "-v/:/host"}, "image"),
        ({"image": "a" * 256}, "image"),
        ({"image": ""}, ""),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(tmp_path, change, sentence):
    if change == {"image": ""}:
        deploy.init(tmp_path / "out", **GOOD | change)  # the default image; and the control of all the others
        assert Deployment.load(tmp_path / "out" / PUBLIC / "deployment.toml").image.startswith("securefl:")
        return
    with pytest.raises(ConsortiumError, match=re.escape(sentence)):
        deploy.init(tmp_path / "out", **GOOD | change)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", ["a file in it", "a file"])
def test_a_target_that_holds_something_is_refused(tmp_path, there):
    out = tmp_path / "out"
    if there == "a file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "mine").write_text("mine")
    with pytest.raises(ConsortiumError, match="not empty"):
        deploy.init(out, **GOOD)
    with pytest.raises(ConsortiumError, match="not empty"):
        deploy.make_member_folder(out, "oslo", "hospital", 0, "0123456789abcdef")
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["out" if there == "a file" else "mine"]


# -- the way on which nobody holds another's key ------------------------------------------------------------------

IDENTITY = "0123456789abcdef"


@pytest.fixture
def own(tmp_path) -> dict[str, Path]:
    """Folders that the members made by themselves."""
    roles = [*((n, "party", i) for i, n in enumerate(PARTIES)), (DEALER, "dealer", 2)]
    roles += [(n, "hospital", 0) for n in HOSPITALS]
    for name, role, rank in roles:
        deploy.make_member_folder(tmp_path / name, name, role, rank, IDENTITY)
    return {name: tmp_path / name for name, _, _ in roles}


def cards(own: dict[str, Path]) -> list[Path]:
    return [folder / "card.toml" for folder in own.values()]


def test_members_make_their_own_keys_and_join(own, tmp_path, pristine):
    consortium = deploy.gather(tmp_path / "gathered", cards(own), SUPERLINK, MESH)
    public = tmp_path / "gathered" / PUBLIC
    assert list(consortium.parties) == PARTIES
    assert consortium.dealer is not None
    gathered_keys = {p.name for p in private_files(tmp_path / "gathered")}
    assert gathered_keys == {"ca.key", "superlink.pem"}
    assert private_files(public) == {}
    for name, folder in own.items():
        pinned = deploy.join(folder, public)
        assert pinned is not None
        assert pinned.fingerprint == consortium.member(name).fingerprint
        # The same files as `init` makes, byte for byte where they hold no key.
        for path in (pristine / name).rglob("*"):
            assert (folder / path.relative_to(pristine / name)).exists(), path
        for script in ("start.sh", "compose.yaml", "kubernetes/workload.yaml", "kubernetes/network.yaml"):
            assert (folder / script).read_bytes() == (pristine / name / script).read_bytes()
    all_folders = tmp_path / "all"
    for name in own:
        shutil.copytree(own[name], all_folders / name)
    for name in (AUTHORITY, "coordinator", PUBLIC):
        shutil.copytree(tmp_path / "gathered" / name, all_folders / name)
    assert leaks(all_folders) == []


def test_a_consortium_that_pins_other_keys_is_not_joined(own, tmp_path):
    deploy.gather(tmp_path / "gathered", cards(own), SUPERLINK, MESH)
    public = tmp_path / "gathered" / PUBLIC
    forged = tmp_path / "forged"
    deploy.make_member_folder(forged, "oslo", "hospital", 0, IDENTITY)
    swapped = [forged / "card.toml" if path.parent.name == "oslo" else path for path in cards(own)]
    deploy.gather(tmp_path / "swapped", swapped, SUPERLINK, MESH)
    with pytest.raises(ConsortiumError, match="not the ones pinned for oslo"):
        deploy.join(own["oslo"], tmp_path / "swapped" / PUBLIC)
    assert not (own["oslo"] / "consortium.toml").exists()
    deploy.join(own["oslo"], public)  # the control


def test_a_foreign_tls_certificate_is_not_joined(own, tmp_path):
    card = Card.load(own["uni"] / "card.toml")
    other = deploy.make_member_folder(tmp_path / "other", "uni", "party", 0, IDENTITY)
    forged = card.model_copy(
        update={"member": card.member.model_copy(update={"certificate": other.member.certificate})}
    )
    forged.save(tmp_path / "forged.toml")
    mixed = [tmp_path / "forged.toml" if path.parent.name == "uni" else path for path in cards(own)]
    deploy.gather(tmp_path / "gathered", mixed, SUPERLINK, MESH)
    with pytest.raises(ConsortiumError, match=r"TLS key .* is not the one pinned for uni"):
        deploy.join(own["uni"], tmp_path / "gathered" / PUBLIC)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("one card twice", "same name"),
        ("another identity", "2 consortia"),
        ("two of one rank", "ranks must be 0, 1, 2"),
        ("a rank left out", "ranks must be 0, 1, 2"),
        ("no second hospital", "two parties and two hospitals"),
        ("a copied SuperNode key", "same SuperNode key"),
        ("a SuperNode key that is none", "OpenSSH P-384"),
        ("a certificate of another rank", "cannot be pinned"),
        ("no card", "There is no"),
        ("not TOML", "not valid TOML"),
    ],
)
def test_cards_that_do_not_fit_are_not_gathered(own, tmp_path, fault, sentence):
    handed = cards(own)
    card = Card.load(own["oslo"] / "card.toml")
    party = Card.load(own["registry"] / "card.toml")
    match fault:
        case "one card twice":
            handed.append(own["oslo"] / "card.toml")
        case "another identity":
            card.model_copy(update={"consortium": "f" * 16}).save(own["oslo"] / "card.toml")
        case "two of one rank":
            party.model_copy(update={"rank": 0}).save(own["registry"] / "card.toml")
        case "a rank left out":
            handed.remove(own["registry"] / "card.toml")
            deploy.make_member_folder(tmp_path / "late", "late", "party", 5, IDENTITY)
            handed.append(tmp_path / "late" / "card.toml")
        case "no second hospital":
            handed = [path for path in handed if path.parent.name not in ("oslo", "bergen")]
        case "a copied SuperNode key":
            card.model_copy(update={"supernode": party.supernode}).save(own["oslo"] / "card.toml")
        case "a SuperNode key that is none":
            text = (own["oslo"] / "card.toml").read_text()
            (own["oslo"] / "card.toml").write_text(text.replace(str(card.supernode), "ssh-ed25519 AAAA"))
        case "a certificate of another rank":
            uni = Card.load(own["uni"] / "card.toml")
            party.model_copy(update={"rank": 0}).save(own["registry"] / "card.toml")
            uni.model_copy(update={"rank": 1}).save(own["uni"] / "card.toml")
        case "no card":
            handed.append(tmp_path / "nowhere" / "card.toml")
        case "not TOML":
            (own["oslo"] / "card.toml").write_text("member = {")
    with pytest.raises(ConsortiumError, match=re.escape(sentence)):
        deploy.gather(tmp_path / "gathered", handed, SUPERLINK, MESH)
    assert not (tmp_path / "gathered").exists()


@pytest.mark.parametrize("identity", ["", "0123", "0123456789ABCDEF", "g" * 16, "0" * 17])
def test_an_identity_is_16_hexadecimal_digits(tmp_path, identity):
    with pytest.raises(ConsortiumError, match="16 hexadecimal digits"):
        deploy.make_member_folder(tmp_path / "out", "oslo", "hospital", 0, identity)


def test_rotated_keys_are_joined(made):
    """The member rotates in its own folder and hands its consortium.toml round; the others join again."""
    before = members.load(made / "oslo" / "consortium.toml")
    changed = members.rotate(made / "oslo", "oslo")
    members.save(changed, made / PUBLIC / "consortium.toml")
    for name in FOLDERS:
        deploy.join(made / name, made / PUBLIC)
    assert Card.load(made / "oslo" / "card.toml").member == changed.member("oslo") != before.member("oslo")
    assert {members.load(made / n / "consortium.toml").digest() for n in FOLDERS} == {changed.digest()}
    assert changed.epoch == before.epoch + 1


@pytest.mark.parametrize("name", ["oslo", "uni", "coordinator"])
@pytest.mark.parametrize("fault", ["study", "member.toml", "ca.pem", "not a certificate", "address"])
def test_what_cannot_be_joined_changes_nothing(made, name, fault):
    members.save(members.rotate(made / "registry", "registry"), made / PUBLIC / "consortium.toml")
    match fault:
        case "study":
            (made / name / "study").mkdir(exist_ok=True)
            (made / name / "study" / "study.toml").write_text("name = ")
        case "member.toml":
            missing = (
                made / PUBLIC / "deployment.toml" if name == "coordinator" else made / name / "member.toml"
            )
            missing.unlink()
        case "ca.pem":
            (made / PUBLIC / "ca.pem").unlink()
        case "not a certificate":
            (made / PUBLIC / "ca.pem").write_text("none")
        case "address":
            if name == "coordinator":
                (made / PUBLIC / "deployment.toml").write_text("none")
            else:
                text = (made / PUBLIC / "deployment.toml").read_text()
                (made / PUBLIC / "deployment.toml").write_text(text.replace("standards =", "nobody ="))
    before = tree(made / name)
    with pytest.raises(SecureFLError):
        deploy.join(made / name, made / PUBLIC)
    assert tree(made / name) == before


def tree(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_join_without_files_writes_the_scripts_again(made, pristine):
    for name in FOLDERS:
        (made / name / "start.sh").write_text("older")
        deploy.join(made / name)
        assert (made / name / "start.sh").read_bytes() == (pristine / name / "start.sh").read_bytes()


# -- studies ------------------------------------------------------------------------------------------------------


def test_a_study_gets_one_digest_everywhere_and_is_copied_whole(made, study):
    digests = {deploy.put_study(made / name, study) for name in FOLDERS if name != DEALER}
    assert len(digests) == 1
    (study / "parts" / "layers.py").write_text("WIDTH = 4\n")
    assert deploy.put_study(made / "oslo", study) not in digests
    assert (made / "oslo" / "study" / "parts" / "layers.py").read_text() == "WIDTH = 4\n"
    assert not [p for p in (made / "oslo").iterdir() if p.name.startswith(".study")]


def test_a_study_replaces_the_older_one_wholly(made, study):
    deploy.put_study(made / "oslo", study)
    shutil.rmtree(study / "parts")
    deploy.put_study(made / "oslo", study)
    assert sorted(p.name for p in (made / "oslo" / "study").iterdir()) == ["consortium.toml", "study.toml"]


def test_the_dealer_is_on_the_mesh_only_if_the_study_checks_norms(made, study):
    text = (made / "uni" / "start.sh").read_text()
    assert "--peer standards.example:7002" in text  # no study yet
    deploy.put_study(made / "uni", study)
    assert "--peer standards.example:7002" not in (made / "uni" / "start.sh").read_text()
    toml = (study / "study.toml").read_text()
    (study / "study.toml").write_text(toml + "[aggregation]\nnorm_bound = 1.0\n")
    deploy.put_study(made / "uni", study)
    assert "--peer standards.example:7002" in (made / "uni" / "start.sh").read_text()


def test_a_party_told_to_go_unchecked_says_so(made):
    (made / "uni" / "member.toml").write_text('name = "uni"\nrole = "party"\ninsecure_unchecked = true\n')
    assert "--insecure-unchecked" not in (made / "uni" / "start.sh").read_text()
    deploy.join(made / "uni")
    assert "--insecure-unchecked" in (made / "uni" / "start.sh").read_text()


@pytest.mark.parametrize("fault", ["simulation", "other members", "a dealer", "malformed", "no deployment"])
def test_a_study_that_does_not_fit_is_refused(made, study, tmp_path, fault):
    deploy.put_study(made / "oslo", study)
    before = {p: p.read_bytes() for p in (made / "oslo").rglob("*") if p.is_file()}
    folder = made / "oslo"
    match fault:
        case "simulation":
            members_of = 'hospitals = ["oslo", "bergen", "aarhus"]'
            (study / "study.toml").write_text(
                STUDY.replace('file = "consortium.toml"', members_of) + "[simulation]\n"
            )
        case "other members":
            deploy.init(tmp_path / "other", HOSPITALS, PARTIES, SUPERLINK, MESH, DEALER)
            shutil.copy(tmp_path / "other" / PUBLIC / "consortium.toml", study)
        case "a dealer":
            folder = made / DEALER
        case "malformed":
            (study / "study.toml").write_text("name = ")
        case "no deployment":
            folder = tmp_path / "nowhere"
    kind = ConsortiumError if fault in ("a dealer", "no deployment") else StudyError
    with pytest.raises(kind):
        deploy.put_study(folder, study)
    assert {p: p.read_bytes() for p in (made / "oslo").rglob("*") if p.is_file()} == before


def test_damaged_files_are_named(made):
    for name, other in itertools.product(
        ["card.toml", "deployment.toml", "consortium.toml", "member.toml"], [b"\xff"]
    ):
        copy = shutil.copytree(made / "oslo", made.with_name(f"damaged-{name}"))
        (copy / name).write_bytes(other)
        with pytest.raises(SecureFLError, match=re.escape(name)):
            deploy.join(copy)
