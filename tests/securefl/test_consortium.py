"""Members and pinned keys: made, read back, changed, and refused where they are not the pinned ones."""

from __future__ import annotations

import base64
import shutil

import pytest

from protocols.certificates import check_party_certificate
from protocols.envelope import SealingKey
from protocols.errors import ProtocolError
from protocols.signing import SigningKey, verify
from securefl import consortium as members
from securefl.errors import ConsortiumError

HOSPITALS, PARTIES = ["st-anna", "va"], ["left", "right"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("consortium")
    return folder, members.create(folder, HOSPITALS, PARTIES)


@pytest.fixture
def folder(made, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(made[0], tmp_path / "copy")


def test_it_reads_back_as_it_was_made(made):
    folder, consortium = made
    again = members.load(folder / "consortium.toml")
    assert again == consortium
    assert again.digest() == consortium.digest()
    assert list(again.hospitals) == ["st-anna", "va"]
    assert list(again.parties) == ["left", "right"]
    assert again.epoch == 1


def test_the_public_file_holds_no_private_byte(made):
    folder, consortium = made
    text = (folder / "consortium.toml").read_text()
    for member in consortium.members:
        for name in (members.SIGNING_FILE, members.SEALING_FILE):
            assert (folder / "keys" / member.name / name).read_text() not in text
    assert "PRIVATE" not in text


def test_private_keys_are_private_and_fit_the_pinned_ones(made):
    folder, consortium = made
    for member in consortium.members:
        home = folder / "keys" / member.name
        assert home.stat().st_mode & 0o777 == 0o700
        assert {p.stat().st_mode & 0o777 for p in home.iterdir()} == {0o600}
        keys = members.load_keys(home, member)
        verify(member.signing_key, "kind", b"d", keys.signing.sign("kind", b"d"))
        assert keys.sealing.public == base64.b64decode(member.sealing)
        assert (keys.tls is not None) == (member.role == "party")
        shown = repr(keys.signing) + repr(keys.sealing)
        assert keys.signing.private_bytes().hex() not in shown


def test_every_member_has_keys_of_its_own(made):
    _, consortium = made
    for what in ("signing", "sealing", "fingerprint"):
        assert len({getattr(m, what) for m in consortium.members}) == 4


@pytest.mark.parametrize(
    ("hospitals", "parties", "message"),
    [
        (["St Anna", "va"], PARTIES, "'St Anna' cannot be a member's name"),
        (["../../x", "va"], PARTIES, "cannot be a member's name"),
        (["va\n", "st"], PARTIES, "cannot be a member's name"),
        (["a" * 33, "va"], PARTIES, "cannot be a member's name"),
        (["va", "va"], PARTIES, "Two members have the same name"),
        (["left", "va"], PARTIES, "Two members have the same name"),
        (HOSPITALS, ["left"], "needs two parties and two hospitals at least, not 1 and 2"),
        (["va"], PARTIES, "needs two parties and two hospitals at least, not 2 and 1"),
    ],
)
def test_bad_names_make_nothing(tmp_path, hospitals, parties, message):
    with pytest.raises(ConsortiumError, match=message) as error:
        members.create(tmp_path / "new", hospitals, parties)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_not_made_twice(folder):
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(ConsortiumError, match="already holds a consortium"):
        members.create(folder, HOSPITALS, PARTIES)
    (folder / "consortium.toml").rename(folder / "elsewhere")
    with pytest.raises(ConsortiumError, match="already holds keys"):
        members.create(folder, HOSPITALS, PARTIES)
    (folder / "elsewhere").rename(folder / "consortium.toml")
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("name", ["va", "right"])
def test_a_rotated_member_has_new_keys_and_the_others_their_own(folder, name):
    before = members.load(folder / "consortium.toml")
    changed = members.rotate(folder, name)
    assert changed == members.load(folder / "consortium.toml")
    assert (changed.epoch, changed.id) == (2, before.id)
    assert changed.digest() != before.digest()
    for member in before.members:
        same = changed.member(member.name)
        assert (same == member) == (member.name != name)
        members.load_keys(folder / "keys" / member.name, same)
    with pytest.raises(ConsortiumError, match="are not the ones pinned for"):
        members.load_keys(folder / "keys" / name, before.member(name))
    assert sorted(p.name for p in (folder / "keys").iterdir()) == sorted(HOSPITALS + PARTIES)


def test_an_interrupted_rotation_is_told_and_mended_by_another(folder, monkeypatch):
    def fail(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(members, "save", fail)
    with pytest.raises(KeyboardInterrupt):
        members.rotate(folder, "va")
    monkeypatch.undo()
    member = members.load(folder / "consortium.toml").member("va")
    with pytest.raises(ConsortiumError, match="rotate"):
        members.load_keys(folder / "keys" / "va", member)
    members.load_keys(folder / "keys" / "va", members.rotate(folder, "va").member("va"))


def test_a_stranger_cannot_be_rotated(folder):
    with pytest.raises(
        ConsortiumError, match="nobody is not a member of this consortium: its members are left, right"
    ):
        members.rotate(folder, "nobody")


def spoil(folder, name, change):
    path = folder / "keys" / "left" / name
    change(path)
    return path


@pytest.mark.parametrize("name", [members.SIGNING_FILE, members.SEALING_FILE, members.TLS_FILE])
def test_keys_that_are_missing_or_open_to_others_are_refused(folder, name):
    member = members.load(folder / "consortium.toml").member("left")
    for mode in (0o640, 0o604, 0o644):
        path = spoil(folder, name, lambda p, m=mode: p.chmod(m))
        with pytest.raises(ConsortiumError, match=f"{path} can be read by others: run `chmod 600"):
            members.load_keys(folder / "keys" / "left", member)
    path.unlink()
    with pytest.raises(ConsortiumError, match=f"{path} is missing: restore the keys of left"):
        members.load_keys(folder / "keys" / "left", member)


@pytest.mark.parametrize("content", [b"", b"AAAA", b"not base64 !", b"\xff\xff", base64.b64encode(bytes(31))])
@pytest.mark.parametrize("name", [members.SIGNING_FILE, members.SEALING_FILE])
def test_damaged_keys_are_refused_naming_the_file(folder, name, content):
    member = members.load(folder / "consortium.toml").member("left")
    path = spoil(folder, name, lambda p: p.write_bytes(content))
    with pytest.raises(ConsortiumError, match=f"{path} is damaged"):
        members.load_keys(folder / "keys" / "left", member)


def test_keys_that_are_not_pinned_are_refused(folder):
    member = members.load(folder / "consortium.toml").member("left")
    for name, private in (
        (members.SIGNING_FILE, SigningKey.generate().private_bytes()),
        (members.SEALING_FILE, SealingKey.generate().private_bytes()),
    ):
        kept = (folder / "keys" / "left" / name).read_bytes()
        spoil(folder, name, lambda p, b=private: p.write_bytes(base64.b64encode(b)))
        with pytest.raises(ConsortiumError, match="are not the ones pinned for left"):
            members.load_keys(folder / "keys" / "left", member)
        (folder / "keys" / "left" / name).write_bytes(kept)
    members.load_keys(folder / "keys" / "left", member)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("epoch = 1", "epoch = 0"), "malformed at epoch"),
        (lambda t: t.replace("epoch = 1", "epoch = 1\nextra = 2"), "malformed at extra"),
        (lambda t: t.replace('name = "va"', 'name = "VA"'), r"malformed at members\.3\.name"),
        (lambda t: t.replace('name = "va"', 'name = "left"'), "Two members have the same name"),
        (
            lambda t: t.replace('role = "hospital"', 'role = "party"', 1),
            "st-anna: a party and a dealer have a TLS certificate, a hospital has none",
        ),
        (
            lambda t: t.replace('role = "hospital"', 'role = "dealer"', 1),
            "st-anna: a party and a dealer have",
        ),
        (lambda t: t.replace('role = "party"', 'role = "hospital"', 1), "left: a party and a dealer have"),
        (lambda t: t.replace('role = "party"', 'role = "broker"', 1), r"malformed at members\.0\.role"),
        (lambda t: t.replace('signing = "', 'signing = "A', 1), "have the wrong size"),
        (lambda t: t.replace('signing = "', 'signing = "AAAA', 1), "have the wrong size"),
        (lambda t: t.replace('signing = "', 'signing = "!', 1), r"malformed at members\.0\.signing"),
        (lambda t: t.replace("id = ", "id "), "is not valid TOML"),
        (lambda t: f"x = {'[' * 5000}\n{t}", "is not valid TOML: it is nested too deeply"),
        (lambda t: f"x = {'1' * 5000}\n{t}", "is not valid TOML: a number in it is too long"),
        (lambda t: "", "malformed at id"),
    ],
)
def test_malformed_files_are_refused_in_one_line(folder, change, message):
    path = folder / "consortium.toml"
    path.write_text(change(path.read_text()))
    with pytest.raises(ConsortiumError, match=message) as error:
        members.load(path)
    assert "\n" not in str(error.value)


def test_files_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(ConsortiumError, match=r"There is no .*: make one with `securefl consortium new`"):
        members.load(tmp_path / "consortium.toml")
    with pytest.raises(ConsortiumError, match="cannot be read"):
        members.load(tmp_path)


def test_any_change_of_a_pinned_key_changes_the_digest(made):
    _, consortium = made
    digests = {consortium.digest()}
    for index, member in enumerate(consortium.members):
        for field in ("signing", "sealing", "name"):
            altered = list(consortium.members)
            altered[index] = member.model_copy(update={field: getattr(member, field)[::-1]})
            digests.add(consortium.model_copy(update={"members": altered}).digest())
    digests.add(consortium.model_copy(update={"epoch": 2}).digest())
    digests.add(consortium.model_copy(update={"members": consortium.members[::-1]}).digest())
    assert len(digests) == 15


# -- the dealer ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dealt(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dealt")
    return folder, members.create(folder, HOSPITALS, PARTIES, "dealer")


@pytest.fixture
def with_dealer(dealt, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(dealt[0], tmp_path / "copy")


def test_a_dealer_is_a_member_of_its_own_kind(made, dealt):
    folder, consortium = dealt
    assert members.load(folder / "consortium.toml") == consortium
    assert consortium.dealer == consortium.member("dealer")
    assert consortium.dealer.role == "dealer"
    assert list(consortium.parties) == PARTIES
    assert list(consortium.hospitals) == HOSPITALS
    assert len(consortium.members) == 5
    assert made[1].dealer is None
    home = folder / "keys" / "dealer"
    assert {p.name for p in home.iterdir()} == {members.SIGNING_FILE, members.SEALING_FILE, members.TLS_FILE}
    assert {p.stat().st_mode & 0o777 for p in home.iterdir()} == {0o600}
    for what in ("signing", "sealing", "fingerprint"):
        assert len({getattr(m, what) for m in consortium.members}) == 5


def test_the_dealers_rank_is_the_number_of_parties(dealt):
    _, consortium = dealt
    assert consortium.certificates == [
        consortium.member(name).certificate.encode() for name in (*PARTIES, "dealer")
    ]
    for rank, certificate in enumerate(consortium.certificates):
        check_party_certificate(certificate, rank, consortium.id)
        for other in set(range(4)) - {rank}:
            with pytest.raises(ProtocolError):
                check_party_certificate(certificate, other, consortium.id)


def test_without_a_dealer_the_channel_has_the_parties_certificates(made):
    _, consortium = made
    assert consortium.certificates == [m.certificate.encode() for m in consortium.parties.values()]


def test_a_dealers_keys_are_loaded_with_its_certificates_key(with_dealer):
    consortium = members.load(with_dealer / "consortium.toml")
    home = with_dealer / "keys" / "dealer"
    keys = members.load_keys(home, consortium.dealer)
    assert keys.tls == (home / members.TLS_FILE).read_bytes()
    (home / members.TLS_FILE).unlink()
    with pytest.raises(ConsortiumError, match=f"{members.TLS_FILE} is missing: restore the keys of dealer"):
        members.load_keys(home, consortium.dealer)


def test_a_rotated_dealer_keeps_role_and_rank(with_dealer):
    before = members.load(with_dealer / "consortium.toml")
    changed = members.rotate(with_dealer, "dealer")
    assert (changed.epoch, changed.dealer.role) == (2, "dealer")
    for what in ("signing", "sealing", "certificate"):
        assert getattr(changed.dealer, what) != getattr(before.dealer, what)
    check_party_certificate(changed.certificates[2], 2, changed.id)
    assert [m for m in changed.members if m.name != "dealer"] == [
        m for m in before.members if m.name != "dealer"
    ]
    members.load_keys(with_dealer / "keys" / "dealer", changed.dealer)
    with pytest.raises(ConsortiumError, match="are not the ones pinned for dealer"):
        members.load_keys(with_dealer / "keys" / "dealer", before.dealer)


@pytest.mark.parametrize(("name", "rank"), [("left", 0), ("right", 1)])
def test_a_rotated_party_keeps_its_rank_beside_a_dealer(with_dealer, name, rank):
    changed = members.rotate(with_dealer, name)
    check_party_certificate(changed.certificates[rank], rank, changed.id)
    assert changed.dealer == members.load(with_dealer / "consortium.toml").dealer


@pytest.mark.parametrize(
    ("dealer", "message"),
    [
        ("left", "Two members have the same name"),
        ("va", "Two members have the same name"),
        ("The Dealer", "'The Dealer' cannot be a member's name"),
        ("../dealer", "cannot be a member's name"),
    ],
)
def test_a_dealer_is_none_of_the_others_and_has_a_name(tmp_path, dealer, message):
    with pytest.raises(ConsortiumError, match=message):
        members.create(tmp_path / "new", HOSPITALS, PARTIES, dealer)
    assert list(tmp_path.iterdir()) == []


def test_a_dealer_is_no_party_that_was_missing(tmp_path):
    with pytest.raises(ConsortiumError, match="needs two parties and two hospitals at least, not 1 and 2"):
        members.create(tmp_path / "new", HOSPITALS, ["left"], "dealer")
    assert list(tmp_path.iterdir()) == []


def test_there_is_one_dealer_at_most(with_dealer, tmp_path):
    path = with_dealer / "consortium.toml"
    consortium = members.load(path)
    second = members.make_member("second", "dealer", 3, consortium.id, tmp_path / "second")
    both = consortium.model_copy(update={"members": [*consortium.members, second]})
    members.save(both, path)
    with pytest.raises(ConsortiumError, match="A consortium has one dealer at most: remove the others"):
        members.load(path)
    # The control: the same card in the other's place.
    rest = [m for m in consortium.members if m.role != "dealer"]
    members.save(consortium.model_copy(update={"members": [*rest, second]}), path)
    assert members.load(path).dealer == second


def test_the_dealer_counts_in_the_digest(dealt):
    _, consortium = dealt
    without = [m for m in consortium.members if m.role != "dealer"]
    other = [
        m.model_copy(update={"certificate": "x"}) if m.role == "dealer" else m for m in consortium.members
    ]
    digests = {
        consortium.digest(),
        *(consortium.model_copy(update={"members": changed}).digest() for changed in (without, other)),
    }
    assert len(digests) == 3
