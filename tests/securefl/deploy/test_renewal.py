"""The authority and the SuperLink's certificate: real handshakes, in memory, between what was made."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from securefl import deploy
from securefl.deploy import authority
from securefl.deploy.settings import DEPLOYMENT_FILE, Deployment
from securefl.errors import ConsortiumError

HOST = "hub.example"


def greets(superlink: Path, roots: bytes, host: str = HOST) -> bool:
    """Whether a client that trusts only ``roots`` accepts the SuperLink under that name."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(superlink, superlink)
    client = ssl.create_default_context(cadata=roots.decode())
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(back, there, server_hostname=host)
    theirs = server.wrap_bio(there, back, server_side=True)
    done = {"ours": False, "theirs": False}
    for _ in range(10):
        for name, end in (("ours", ours), ("theirs", theirs)):
            try:
                end.do_handshake()
                done[name] = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError:
                return False
        if all(done.values()):
            return True
    raise AssertionError("The handshake did not end.")


def pem(folder: Path) -> Path:
    return folder / "coordinator" / "keys" / "superlink.pem"


def roots(folder: Path) -> bytes:
    return (folder / "authority" / "ca.pem").read_bytes()


@pytest.mark.parametrize(
    ("host", "accepted"),
    [(HOST, True), ("localhost", True), ("127.0.0.1", True), ("other.example", False), ("example", False)],
)
def test_members_accept_the_superlink_under_its_names_only(pristine, host, accepted):
    assert greets(pem(pristine), (pristine / "oslo" / "ca.pem").read_bytes(), host) is accepted


def test_an_address_may_be_a_number(tmp_path):
    key, certificate = authority.make_authority()
    (tmp_path / "superlink.pem").write_bytes(authority.make_superlink("192.0.2.9", key, certificate))
    assert greets(tmp_path / "superlink.pem", certificate, "192.0.2.9")
    assert not greets(tmp_path / "superlink.pem", certificate, "192.0.2.8")


def test_another_authority_is_not_trusted(pristine):
    _, foreign = authority.make_authority()
    assert not greets(pem(pristine), foreign)


def test_the_superlinks_key_can_sign_nothing(pristine):
    (certificate,) = authority.certificates(pem(pristine).read_bytes())
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_renewal_changes_nothing_for_members(made):
    old = pem(made).read_bytes()
    renewed = deploy.renew(made / "authority", made / "coordinator")
    new = pem(made).read_bytes()
    assert old != new
    assert pem(made).stat().st_mode & 0o777 == 0o600
    known = (made / "oslo" / "ca.pem").read_bytes()
    (made / "old.pem").write_bytes(old)
    assert greets(pem(made), known)
    assert greets(made / "old.pem", known)  # until its end: the two overlap
    (before,), (after,) = authority.certificates(old), authority.certificates(new)
    assert after.not_valid_before_utc < before.not_valid_after_utc
    assert renewed.superlink_until == after.not_valid_after_utc
    assert before.public_key() != after.public_key()


def test_days_are_kept_and_never_outlive_the_authority(made):
    now = datetime.datetime.now(datetime.UTC)
    assert abs(
        deploy.renew(made / "authority", made / "coordinator", 30).superlink_until - now
    ) < datetime.timedelta(31)
    renewed = deploy.renew(made / "authority", made / "coordinator", 36500)
    assert renewed.superlink_until == renewed.authority_until


def test_a_new_authority_comes_in_two_steps(made):
    old_roots = roots(made)
    first = deploy.renew(made / "authority", made / "coordinator", new_authority=True)
    assert first.roots == made / "authority" / "ca.pem"
    assert roots(made).startswith(old_roots)
    assert len(authority.certificates(roots(made))) == 2
    # Step one: those who have the new ca.pem and those who have not are both served.
    assert greets(pem(made), old_roots)
    assert greets(pem(made), roots(made))
    assert (made / "coordinator" / "ca.pem").read_bytes() == roots(made)
    # Step two: the next certificate is the new authority's.
    deploy.renew(made / "authority", made / "coordinator")
    assert greets(pem(made), roots(made))
    assert not greets(pem(made), old_roots)


@pytest.mark.parametrize("steps", [1, 2])
def test_after_a_theft_no_older_key_is_believed(made, steps):
    (made / "stolen.pem").write_bytes(pem(made).read_bytes())
    old_key, old_roots = (made / "authority" / "ca.key").read_bytes(), roots(made)
    (made / "forged.pem").write_bytes(authority.make_superlink(HOST, old_key, old_roots))
    if steps == 1:
        renewed = deploy.renew(made / "authority", made / "coordinator", new_authority=True, drop_old=True)
    else:
        deploy.renew(made / "authority", made / "coordinator", new_authority=True)
        # The control: with both authorities, what the old one signed is believed.
        assert greets(made / "stolen.pem", (made / "public" / "ca.pem").read_bytes())
        renewed = deploy.renew(made / "authority", made / "coordinator", drop_old=True)
    assert renewed.roots == made / "authority" / "ca.pem"
    deploy.join(made / "oslo", made / "public")
    for folder in ("authority", "coordinator", "public", "oslo"):
        held = (made / folder / "ca.pem").read_bytes()
        assert len(authority.certificates(held)) == 1
        assert greets(pem(made), held)
        assert not greets(made / "stolen.pem", held)
        assert not greets(made / "forged.pem", held)
    # The next year's renewal needs nothing from the members.
    deploy.renew(made / "authority", made / "coordinator")
    assert greets(pem(made), (made / "oslo" / "ca.pem").read_bytes())


def test_the_only_authority_is_not_dropped(made):
    before = roots(made), pem(made).read_bytes()
    with pytest.raises(ConsortiumError, match="no older one to drop"):
        deploy.renew(made / "authority", made / "coordinator", drop_old=True)
    assert (roots(made), pem(made).read_bytes()) == before


def test_another_consortiums_public_folder_is_left_alone(made):
    _, foreign = authority.make_authority()
    (made / "public" / "ca.pem").write_bytes(foreign)
    deploy.renew(made / "authority", made / "coordinator", new_authority=True, drop_old=True)
    assert (made / "public" / "ca.pem").read_bytes() == foreign


def test_an_ended_authority_leaves_the_bundle_and_signs_no_more(made):
    ended_key, ended = authority.make_authority(days=0)
    _, fresh = authority.make_authority()
    assert authority.bundle(ended, fresh) == fresh
    assert len(authority.certificates(authority.bundle(roots(made), fresh))) == 2
    (made / "authority" / "ca.key").write_bytes(ended_key)
    (made / "authority" / "ca.pem").write_bytes(ended)
    before = pem(made).read_bytes()
    with pytest.raises(ConsortiumError, match="ended on"):
        deploy.renew(made / "authority", made / "coordinator")
    assert pem(made).read_bytes() == before


def test_a_new_host_is_in_the_next_certificate(made):
    file = made / "coordinator" / DEPLOYMENT_FILE
    Deployment.load(file).model_copy(update={"superlink": "moved.example:8000"}).save(file)
    deploy.renew(made / "authority", made / "coordinator")
    assert greets(pem(made), roots(made), "moved.example")
    assert not greets(pem(made), roots(made), HOST)


@pytest.mark.parametrize(
    "fault", ["another key", "no key", "damaged key", "no certificate", "no coordinator"]
)
def test_what_is_damaged_is_said(made, fault):
    folder = made / "authority"
    coordinator = made / "coordinator"
    match fault:
        case "another key":
            (folder / "ca.key").write_bytes(authority.make_authority()[0])
        case "no key":
            (folder / "ca.key").unlink()
        case "damaged key":
            (folder / "ca.key").write_bytes(b"-----BEGIN")
        case "no certificate":
            (folder / "ca.pem").write_bytes(b"")
        case "no coordinator":
            coordinator = made / "nowhere"
    before = pem(made).read_bytes()
    with pytest.raises(ConsortiumError):
        deploy.renew(folder, coordinator)
    assert pem(made).read_bytes() == before
