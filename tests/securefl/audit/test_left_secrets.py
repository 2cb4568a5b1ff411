"""What an audit finds of keys and canaries in a run's folder: in key files too, each of which may hold its own key."""

from __future__ import annotations

import base64
import zipfile
from pathlib import Path

import pytest

from protocols.certificates import make_party_certificate
from securefl.audit.deployment import examine
from securefl.audit.left_secrets import check_secrets
from securefl.run_folder import RunFolder
from tests.securefl.audit.conftest import failing, lines

CANARY = {"patient": b"Mrs Canary of Hamburg"}


def kept(run: RunFolder, key: str) -> bytes:
    return (run.keys / key).read_bytes()


def left(run: RunFolder, content: bytes, file: str = "logs/dump.key") -> Path:
    path = run.path / file
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def test_keys_that_lie_where_they_belong_are_no_find_and_are_searched(finished: RunFolder) -> None:
    mark, says = lines(examine(finished.path, canaries=CANARY))["secrets"]
    keys = sorted(finished.path.rglob("*.key"))
    files = [path for path in finished.path.rglob("*") if path.is_file()]
    assert len({path.name for path in keys}) == 3  # signing, sealing and TLS keys
    assert mark == "holds"
    assert says.startswith(f"{len(keys) + 1} secrets (1 canaries) stand in none of ")
    assert f" of {len(files)} files, but for each key in its own." in says


@pytest.mark.parametrize("file", ["logs/dump.key", "logs/dump.txt"])
def test_a_canary_in_a_file_of_any_name(finished: RunFolder, file: str) -> None:
    left(finished, b"dumped: Mrs Canary of Hamburg\n", file)
    assert failing(finished.path, canaries=CANARY).startswith(f"secrets: Patient stands in {file}")
    left(finished, b"dumped: nobody of Hamburg\n", file)
    assert examine(finished.path, canaries=CANARY).broken is None


@pytest.mark.parametrize("file", ["va/signing.key", "va/sealing.key", "party-1/tls.key"])
def test_a_canary_beside_a_key_in_its_own_file(finished: RunFolder, file: str) -> None:
    path = finished.keys / file
    path.write_bytes(path.read_bytes() + b"\nMrs Canary of Hamburg\n")
    assert failing(finished.path, canaries=CANARY).startswith(f"secrets: Patient stands in keys/{file}")
    # The key is known as one all the same.
    left(finished, kept(finished, "va/signing.key").split()[0], "report.html")
    assert failing(finished.path).startswith("secrets: The key of keys/va/signing.key stands in report.html")


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("va/signing.key", "The key of keys/va/signing.key stands in logs/dump.key"),
        ("va/sealing.key", "The key of keys/va/sealing.key stands in logs/dump.key"),
        # As a PEM file, and as the base64 that stands in it.
        ("party-1/tls.key", "The key of keys/party-1/tls.key stands in logs/dump.key"),
    ],
)
@pytest.mark.parametrize(("before", "after"), [(b"", b""), (b"error in ", b" at 1")])
def test_a_copy_of_a_key_in_another_key_file(
    finished: RunFolder, key: str, found: str, before: bytes, after: bytes
) -> None:
    path = left(finished, before + kept(finished, key) + after)
    assert failing(finished.path).startswith(f"secrets: {found}")
    path.unlink()
    assert examine(finished.path).broken is None


def test_a_members_key_in_another_members_file(finished: RunFolder) -> None:
    path = finished.keys / "va" / "signing.key"
    path.write_bytes(path.read_bytes() + b"\n" + kept(finished, "b/signing.key"))
    assert failing(finished.path).startswith(
        "secrets: The key of keys/b/signing.key stands in keys/va/signing.key"
    )


def test_a_private_key_in_pem_that_is_not_the_files_own(finished: RunFolder) -> None:
    other = make_party_certificate(0, "0123456789abcdef").private_key_pem
    own = finished.keys / "party-1" / "tls.key"
    before = own.read_bytes()
    own.write_bytes(before + before)  # twice the same key
    assert examine(finished.path).broken is None
    own.write_bytes(before + other)
    assert failing(finished.path) == "secrets: A private key stands in keys/party-1/tls.key (PEM)."
    own.write_bytes(before)
    path = left(finished, other)
    assert failing(finished.path) == "secrets: A private key stands in logs/dump.key (PEM)."
    path.rename(finished.keys / "party-1" / "old.key")
    assert examine(finished.path).broken is None


def test_a_key_that_lies_outside_the_members_places_is_looked_for_too(finished: RunFolder) -> None:
    stray = base64.b64encode(bytes(range(100, 132)))
    left(finished, stray, "homes/va/old.key")
    assert examine(finished.path).broken is None
    left(finished, b"it was " + stray, "logs/log")
    assert failing(finished.path).startswith("secrets: The key of homes/va/old.key stands in logs/log")


def test_a_link_is_not_followed_and_nothing_is_said_of_what_it_leads_to(
    auditors: RunFolder, tmp_path: Path
) -> None:
    assert lines(examine(auditors.path, canaries=CANARY))["secrets"][0] == "holds"
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "log").write_bytes(CANARY["patient"])
    (auditors.path / "logs").symlink_to(tmp_path / "logs")
    mark, says = lines(examine(auditors.path, canaries=CANARY))["secrets"]
    assert (mark, "; logs is a link, and links are not followed" in says) == ("unchecked", True)


def test_who_searched_nothing_does_not_say_that_it_holds(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "empty").touch()
    check = check_secrets(RunFolder(tmp_path / "run"), CANARY)
    assert (check.mark, check.says) == (
        "unchecked",
        "Nothing was searched: no file of this folder has a byte in it.",
    )
    (tmp_path / "run" / "empty").write_bytes(b"x")
    assert check_secrets(RunFolder(tmp_path / "run"), CANARY).mark == "holds"


def test_a_file_that_cannot_be_unpacked_is_not_called_searched(finished: RunFolder) -> None:
    path = finished.path / "logs" / "old.zip"
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x", bytes(1000))
    data = bytearray(path.read_bytes())
    data[39:44] = b"\xff" * 5  # LZMA's properties
    path.write_bytes(data)
    examined = examine(finished.path)
    assert examined.broken is None
    mark, says = lines(examined)["secrets"]
    assert mark == "unchecked"
    assert says.endswith(
        "logs/old.zip looks compressed and could not be unpacked: nobody has looked into it."
    )
