"""The attacks of ``test_stock_syft.py`` on a domain of securefl: refused, written down, and the session goes on.

What a hostile researcher sends here goes through Syft's own client and leaves signed with the researcher's own keys:
the strongest that a pinned peer can do. Every test ends with an honest proposal that arrives.
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from securefl.domain.errors import DecidedError, ProposalError, SyftMessageError, UnknownPeerError
from securefl.domain.identity import Identity
from securefl.domain.letters import Decision
from securefl.domain.proposal import SignedProposal, file_digests, members_of, write_job
from securefl.domain.researcher_session import Researcher
from securefl.domain.syft_rules import read_job
from securefl.errors import SecureFLError
from securefl.study import Study
from tests.guarantees.domain.conftest import (
    CANARY,
    MALLORY,
    NOW,
    OWNER,
    RESEARCHER,
    SOUTH,
    Domain,
    hash_of,
    stock_approval,
    study_of,
    syft_message,
)
from tests.work import calls

DAY = 24 * 3600


def inbox(name: str) -> str:
    return f"app_data/job/inbox/{RESEARCHER}/v1/{name}"


def review(name: str) -> str:
    return f"app_data/job/review/{RESEARCHER}/v1/{name}"


def submits(by: object, signed: SignedProposal, files: dict[str, bytes], folder: Path) -> None:
    """A job of somebody's own making, through Syft's client."""
    write_job(folder / "code", signed, files)
    with by.syft() as client:  # type: ignore[attr-defined]
        client.submit_python_job(
            OWNER, str(folder / "code"), signed.proposal.name, entrypoint="main.py", force_submission=True
        )


def goes_on(domain: Domain) -> None:
    """An honest proposal after the attack arrives, is approved, and its researcher hears of it."""
    sent = domain.propose("afterwards", name='"Afterwards"')
    domain.north.request(sent.name).approve("fine")
    states = {status.hospital: status.state for status in sent.status()}
    assert states == {"north": "approved", "south": "pending"}


def actions(domain: Domain) -> list[str]:
    return [entry.action for entry in domain.north.log.entries()]


def quarantined(domain: Domain) -> int:
    """How many letters of the researcher's the owner put aside."""
    entries = domain.north.log.entries()
    return sum(e.action == "quarantined" and e.facts["sender"] == RESEARCHER for e in entries)


def nothing_runs(domain: Domain, *proposals: Any) -> None:
    """The owner's service starts nothing, whatever Syft shows and although the coordinator says that they run."""
    domain.launched(*proposals)
    with domain.north.serving() as serving:
        serving.step()
        assert serving.confinement is None
    assert "node-started" not in actions(domain)


def test_the_control_what_is_approved_and_launched_is_started(domain):
    """So that the tests below, in which nothing is, show something."""
    sent = domain.propose()
    domain.north.request(sent.name).approve("fine")
    domain.launched(sent)
    with domain.north.serving() as serving:
        serving.step()
        assert serving.confinement is not None
    assert "node-started" in actions(domain)


def test_the_control_an_honest_proposal_goes_all_the_way_to_its_permits(domain):
    sent = domain.propose()
    for owner in (domain.north, domain.south):
        (request,) = owner.requests()
        assert request.state == "pending"
        assert "WIDTH = 3" in str(request.review())
        request.approve("IRB 2026-117")
    assert {status.state for status in sent.status()} == {"approved"}
    assert {"approved"} <= set(actions(domain))
    goes_on(domain)


def test_nobody_approves_in_the_owners_name(domain):
    """(A) The owner's email as the sender of Syft's message, inside a letter that the researcher signed."""
    sent = domain.propose()
    domain.says(OWNER, {f"{review(sent.name)}/state.yaml": stock_approval()})
    request = domain.north.request(sent.name)
    assert request.state == "pending"
    assert request.job.status == "pending"
    assert domain.north.decisions.permit_of(sent.proposal) is None
    assert quarantined(domain) > 0
    nothing_runs(domain, sent)
    goes_on(domain)


@pytest.mark.slow
def test_nobody_approves_in_the_own_name_either(domain):
    """The same file, honestly signed: it lies outside what a researcher may write."""
    sent = domain.propose()
    domain.says(RESEARCHER, {f"{review(sent.name)}/state.yaml": stock_approval()})
    assert domain.north.request(sent.name).job.status == "pending"
    nothing_runs(domain, sent)
    goes_on(domain)


def test_what_syft_calls_approved_is_not_approved(domain):
    """Syft's own ``approve`` and Syft's own state file allow nothing: only a permit does."""
    sent = domain.propose()
    with domain.north.syft():
        domain.north.request(sent.name).job.approve("by Syft")
    assert domain.north.request(sent.name).state == "pending"
    assert domain.north.decisions.permit_of(sent.proposal) is None
    nothing_runs(domain, sent)
    goes_on(domain)


def test_a_change_after_the_review_is_not_approved_and_after_the_approval_does_not_run(domain):
    """(B) One byte of the study's Python, first between the review and the approval, then after it."""
    sent = domain.propose()
    request = domain.north.request(sent.name)
    request.review()
    path = f"{inbox(sent.name)}/code/study/parts/layers.py"
    domain.says(RESEARCHER, {path: "WIDTH = 4\n"}, replaces={path: hash_of("WIDTH = 3\n")})

    request = domain.north.request(sent.name)
    signed = request.approve("what I read")
    copy = domain.north.study_folder(sent.proposal)
    assert (copy / "parts" / "layers.py").read_text() == "WIDTH = 3\n"
    assert signed.permit.study == sent.proposal.study
    domain.says(RESEARCHER, {path: "WIDTH = 5\n"}, replaces={path: hash_of("WIDTH = 4\n")})
    domain.north.requests()
    assert (copy / "parts" / "layers.py").read_text() == "WIDTH = 3\n"

    (copy / "parts" / "layers.py").write_text("WIDTH = 6\n")  # and if the copy itself is changed
    nothing_runs(domain, sent)
    assert domain.north.request(sent.name).state == "failed"
    goes_on(domain)


@pytest.mark.slow
def test_what_arrives_is_compared_with_what_was_signed(domain):
    """The researcher signs one study and sends another, with a byte more, and with a file more or less."""
    sent = domain.propose()
    files = dict(Study.load(domain.folder / "studies" / "study").files)
    more = {**files, "parts/more.py": b"WIDTH = 5\n"}
    less = {name: content for name, content in files.items() if name != "parts/layers.py"}
    for number, other in enumerate(({**files, "parts/layers.py": b"WIDTH = 4\n"}, less, more)):
        proposal = sent.proposal.model_copy(update={"number": bytes([number]) * 16})
        submits(
            domain.me,
            SignedProposal.sign(proposal, domain.me.identity.signing),
            other,
            domain.folder / f"job{number}",
        )
        request = domain.north.request(proposal.name)
        if other is more:  # what was not signed is not taken over
            assert "more.py" not in str(request.review())
        else:
            with pytest.raises(ProposalError):
                request.review()
            with pytest.raises(ProposalError):
                request.approve("unread")
            assert request.state == "pending"
    goes_on(domain)


def archive(member: str, content: bytes) -> bytes:
    """What Syft sends: a gzipped tar of one file."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        info = tarfile.TarInfo(member)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def poisons() -> list[bytes]:
    """Letters as they should be, with no message of Syft's inside, and with one that Python and YAML choke on."""
    good = job_message("poison").model_dump_json()
    texts = [
        good.replace("echo", "\\ud800"),  # half a character: JSON allows it, UTF-8 does not
        good.replace("x: 1", "&a [*a]"),
        good.replace("x: 1", "[" * 1000),
        good.replace('"proposed_file_changes":', '"proposed_file_changes": 5, "no":'),
        good.replace('"sender_email":"', '"sender_email":null,"no":"'),
        "[" * 100_000,
        "1" * 5000,
        "NaN",
    ]
    assert all(text != good for text in texts)
    member = "proposed_file_changes.json"
    return [
        b"no message",
        b"",
        b"\x1f\x8b" + bytes(100),
        b"\x1f\x8b\x08\x00" + b"\xff" * 10_000,
        *(archive(member, text.encode()) for text in texts),
        archive("../../escaped", good.encode()),
    ]


def job_message(name: str) -> Any:
    """A message with one job, as Syft's client makes it."""
    contents = {"run.sh": "echo", "config.yaml": "x: 1", "code/main.py": "echo"}
    return syft_message(RESEARCHER, {f"{inbox(name)}/{path}": text for path, text in contents.items()})


def test_no_malformed_message_stops_anything(domain):
    """(C) Each is quarantined once, and nobody's later message is held up."""
    for poison in poisons():
        domain.writes(poison)
    for _ in range(2):
        assert [request.name for request in domain.north.requests()] == []
    assert quarantined(domain) == len(poisons())
    goes_on(domain)


def test_no_description_takes_the_owners_time():
    """A job's ``config.yaml`` of two kilobytes is refused at once: a good one takes 2,000 calls."""
    message = job_message("slow").model_dump_json().replace("x: 1", "[" * 2000)

    def refused():
        with pytest.raises(SyftMessageError):
            read_job(archive("proposed_file_changes.json", message.encode()), RESEARCHER, OWNER, "1")

    assert calls(refused) < 20_000


def test_a_message_that_unpacks_to_very_much_is_refused(domain):
    """A compressed bomb: a hundred kilobytes of letter, 128 MiB of content."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=9) as archive:
        info = tarfile.TarInfo("message")
        info.size = 2**27
        archive.addfile(info, Zeros(2**27))  # type: ignore[arg-type]
    domain.writes(packed.getvalue())

    before = peak()
    assert list(domain.north.requests()) == []
    assert peak() - before < 100 * 2**20
    assert quarantined(domain) > 0
    goes_on(domain)


class Zeros:
    """A file of zeros that takes no memory."""

    def __init__(self, size: int) -> None:
        self._left = size

    def read(self, size: int) -> bytes:
        size = min(size, self._left)
        self._left -= size
        return bytes(size)


def peak() -> int:
    import resource

    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


PATHS = [
    f"app_data/job/inbox/{RESEARCHER}/../../review/{RESEARCHER}/v1/job/state.yaml",
    f"app_data/job/inbox/{RESEARCHER}/v1/job/../../../../../../escaped.txt",
    f"app_data/job/inbox/{RESEARCHER}/syft.pub.yaml",
    f"app_data/job/inbox/{RESEARCHER}/v1/job/code/syft.pub.yaml",
    f"app_data/job/inbox/{RESEARCHER}/v1/job/code/SYFT.pub.yaml",
    f"app_data/job/inbox/{RESEARCHER}/v1/job/../job2/run.sh",
    f"app_data/job/inbox/{RESEARCHER}/job/run.sh",
    f"app_data/job/inbox/{SOUTH}/v1/job/run.sh",
    "public/syft_datasets/records/records.csv",
    "private/syft_datasets/records/private_metadata.yaml",
    "/tmp/escaped.txt",
    "syft.pub.yaml",
    f"app_data/job/inbox/{RESEARCHER}/v1/job/" + "x" * 300,
    f"app_data/job/inbox/{RESEARCHER}/v1/job/a\0b",
    f"app_data/job/inbox/{RESEARCHER}/v1/\n/run.sh",
]


def test_a_researcher_writes_nowhere_but_in_the_own_jobs(domain):
    """By any name: out of the folder, into the reviews, over a permission, into another's inbox, over a dataset.

    Each file stands in a message alone, and beside an honest job: then the job does not arrive either.
    """
    for number, path in enumerate(PATHS):
        domain.says(RESEARCHER, {path: "evil"})
        honest = job_message(f"job{number}").proposed_file_changes
        beside = syft_message(RESEARCHER, {path: "evil"})
        beside.proposed_file_changes += honest
        domain.writes(beside.as_compressed_data())

    assert list(domain.north.requests()) == []
    syft = domain.north.home / "syft"
    assert [p for p in syft.rglob("*") if p.is_file() and b"evil" in p.read_bytes()] == []
    assert not list(syft.rglob("job*.sh"))
    assert not list(domain.folder.rglob("escaped.txt"))
    assert not Path("/tmp/escaped.txt").exists()
    assert quarantined(domain) == 2 * len(PATHS)
    goes_on(domain)


def test_nothing_in_the_folder_adds_a_peer_to_syft_or_to_us(domain):
    """(D) Syft's list of peers in its storage, a card, and a request: all of Mallory's making."""
    for name in ("SYFT_peers.json", f"{OWNER}/SYFT_peers.json"):
        path = domain.relay / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({MALLORY: {"state": "accepted"}}))
    mallory = Researcher(MALLORY, domain.folder / MALLORY, domain.relay, domain.clock)
    mallory.accept(OWNER, domain.north.fingerprint)
    job = {
        f"app_data/job/inbox/{MALLORY}/v1/job/{name}": "x: 1"
        for name in ("run.sh", "config.yaml", "code/a.py")
    }
    mallory.mail.send(OWNER, "syft/job", syft_message(MALLORY, job).as_compressed_data())

    assert list(domain.north.requests()) == []
    assert MALLORY not in [card.email for card in domain.north.peers]
    with domain.north.syft() as client:
        client.load_peers(force_download=True)
        assert MALLORY not in [peer.email for peer in client.peer_manager.approved_peers]
    goes_on(domain)


@pytest.mark.slow
def test_a_job_of_plain_syft_is_turned_down_and_its_script_never_runs(domain):
    """``run.sh`` is what stock Syft runs. Here it is a file that nobody executes."""
    mark = domain.folder / "ran"
    with domain.me.syft() as client:
        client.submit_bash_job(OWNER, f"touch {mark}", "plain")
    assert list(domain.north.requests()) == []
    assert "job-refused" in actions(domain)
    with domain.north.syft() as client:
        assert client.job_client.jobs["plain"].status == "rejected"
    nothing_runs(domain)

    sent = domain.propose()
    path = f"{inbox(sent.name)}/run.sh"
    job = domain.north.request(sent.name).job
    domain.says(RESEARCHER, {path: f"touch {mark}"}, replaces={path: hash_of(job.run_script)})
    domain.north.request(sent.name).approve("the study is fine")
    domain.launched(sent)
    with domain.north.serving() as serving:
        serving.step()
    assert not mark.exists()
    goes_on(domain)


def test_an_expired_approval_starts_nothing_and_is_not_given_twice(domain):
    sent = domain.propose()
    request = domain.north.request(sent.name)
    request.approve("for a day", days=1)
    domain.clock.now = NOW + DAY
    nothing_runs(domain, sent)
    assert domain.north.request(sent.name).state == "expired"
    with pytest.raises(DecidedError):
        domain.north.request(sent.name).approve("again")
    assert {s.hospital: s.state for s in sent.status()}["north"] == "expired"
    goes_on(domain)


def test_a_revoked_approval_starts_nothing_and_its_researcher_is_nobody(domain):
    """The reason reaches the researcher; what it sends afterwards reaches nobody."""
    sent, other = domain.propose(), domain.propose("other", name='"Another"')
    for proposal in (sent, other):
        domain.north.request(proposal.name).approve("fine")
    domain.north.request(sent.name).revoke("a patient withdrew")
    status = {s.hospital: s for s in sent.status()}["north"]
    assert (status.state, status.reason) == ("revoked", "a patient withdrew")
    assert RESEARCHER not in [card.email for card in domain.north.peers]
    nothing_runs(domain, sent, other)  # neither the one that was revoked nor the other of the same researcher

    before = len(list(domain.north.requests()))
    domain.me.mail.send(OWNER, "syft/anything", b"still here")
    assert len(list(domain.north.requests())) <= before
    with pytest.raises(UnknownPeerError):
        domain.north.mail.send(RESEARCHER, "decision", b"")
    (request,) = [r for r in domain.south.requests() if r.name == sent.name]  # the other hospital goes on
    request.approve("fine here")


@pytest.mark.slow
def test_an_old_permit_is_none_for_a_new_proposal_even_of_the_same_study(domain):
    """Proposed again, byte for byte: a new number, a new decision. A changed study is another one anyway."""
    first = domain.propose()
    permit = domain.north.request(first.name).approve("once")
    again = domain.again(domain.folder / "studies" / "study")
    changed = domain.propose("changed", learning_rate="0.2")
    for sent in (again, changed):
        request = domain.north.request(sent.name)
        assert (request.state, request.permit) == ("pending", None)

    forged = Decision(
        proposal=again.proposal.digest(),
        hospital="north",
        state="approved",
        reason="",
        time=NOW,
        permit=domain.north.endorse(permit),
    )
    domain.me.mail.send(OWNER, Decision.topic, forged.to_bytes())
    nothing_runs(domain, again, changed)
    assert domain.north.request(again.name).state == "pending"
    goes_on(domain)


@pytest.mark.slow
def test_a_proposal_in_somebody_elses_name_is_refused(domain):
    """The researcher's own job, with a proposal that a stranger signed, and with one in a stranger's name."""
    stranger = Identity.open(domain.folder / MALLORY, MALLORY)
    sent = domain.propose()
    files = dict(Study.load(domain.folder / "studies" / "study").files)
    for number, (name, key) in enumerate(
        ((RESEARCHER, stranger.signing), (MALLORY, domain.me.identity.signing))
    ):
        proposal = sent.proposal.model_copy(update={"researcher": name, "number": bytes([number]) * 16})
        submits(domain.me, SignedProposal.sign(proposal, key), files, domain.folder / f"job{number}")
    assert [request.name for request in domain.north.requests()] == [sent.name]
    assert actions(domain).count("job-refused") == 2
    goes_on(domain)


@pytest.mark.slow
def test_nobody_takes_the_place_of_anothers_proposal(domain):
    """A second researcher sends the first one's signed proposal as its own, and one of the same number and title."""
    rival = Researcher(MALLORY, domain.folder / MALLORY, domain.relay, domain.clock)
    rival.accept(OWNER, domain.north.fingerprint)
    domain.north.accept(MALLORY, rival.fingerprint)
    sent = domain.propose()
    domain.north.request(sent.name).approve("the first")
    loaded = Study.load(study_of(domain.folder / "studies" / "rival", domain.deployed, learning_rate="0.9"))
    own = sent.proposal.model_copy(
        update={
            "researcher": MALLORY,
            "study": loaded.digest(members_of(loaded).digest()),
            "files": file_digests(loaded),
        }
    )
    rival.mail.receive("nothing")
    submits(rival, sent.signed, dict(loaded.files), domain.folder / "copied")
    submits(
        rival, SignedProposal.sign(own, rival.identity.signing), dict(loaded.files), domain.folder / "own"
    )

    states = {(r.proposal.researcher, r.state) for r in domain.north.requests()}
    assert states == {(RESEARCHER, "approved"), (MALLORY, "pending")}
    assert "0.9" not in (domain.north.study_folder(sent.proposal) / "study.toml").read_text()
    goes_on(domain)


@pytest.mark.slow
def test_a_study_reads_no_folder_but_the_dataset(domain):
    for number, root in enumerate(
        ("../data/../../secret", "../database", "/etc", "../data/../identity", "../keys")
    ):
        sent = domain.propose(f"root{number}", root=f'"{root}"')
        with pytest.raises(SecureFLError, match="data"):
            domain.north.request(sent.name).approve("unwatched")
    goes_on(domain)


@pytest.mark.slow
def test_a_title_or_a_file_writes_no_line_of_the_review(domain):
    """What the researcher wrote is shown as such; only the review's own lines look like the review's own lines."""
    fake = "\n" + "-" * 78 + "\nPrivacy\n" + "-" * 78 + "\nEach patient: epsilon 0.01\n"
    folder = domain.study()
    (folder / "parts" / "layers.py").write_text(f'"""{fake}"""\n')
    loaded = Study.load(folder)
    try:
        sent = domain.again(loaded, f"good{fake}")
    except (SecureFLError, ValueError):  # refused where it is written
        sent = domain.again(loaded)
    text = str(domain.north.request(sent.name).review())
    assert text.split("\n").count("Privacy") == 1
    goes_on(domain)


def test_a_hospital_speaks_for_itself_only(domain):
    """A steward's decision for another hospital, and an event of Syft's about another steward's datasite."""
    from uuid import uuid4

    from syft.sync.events.file_change_event import FileChangeEvent, FileChangeEventsMessage

    sent = domain.propose()
    for hospital in ("north", "nowhere", "../../north"):
        false = Decision(
            proposal=sent.proposal.digest(), hospital=hospital, state="approved", reason="", time=NOW
        )
        domain.south.mail.send(RESEARCHER, Decision.topic, false.to_bytes())
    assert {s.hospital: s.state for s in sent.status()} == {"north": "pending", "south": "pending"}

    for email, path in (
        (OWNER, f"{review(sent.name)}/outputs/model.txt"),
        (SOUTH, "../" + OWNER + "/model.txt"),
        (SOUTH, "/tmp/model.txt"),
    ):
        event = FileChangeEvent(
            id=uuid4(),
            path_in_datasite=Path(path),
            datasite_email=email,
            content="poisoned",
            new_hash=hash_of("poisoned"),
            submitted_timestamp=1.0,
            timestamp=1.0,
        )
        with domain.south.syft() as client:
            client.sync_engine._connection_router.owner_write_event_messages_to_outbox(
                RESEARCHER, FileChangeEventsMessage(events=[event])
            )
    with domain.me.syft() as client:
        client.sync()
    assert list((domain.me.home / "syft").rglob("model.txt")) == []
    assert not Path("/tmp/model.txt").exists()
    assert "quarantined" in [entry.action for entry in domain.me.log.entries()]
    goes_on(domain)


ABOUT = [
    "mock_files_urls: 5",
    "mock_files_urls: [[1]]",
    "mock_url: [1]",
    "mock_url: 2020-01-01",
    "tags: 5",
    "summary: {a: 1}",
]


@pytest.mark.slow
def test_a_hostile_hospital_stops_no_researcher(domain):
    """A dataset whose description no program expects, and files that are no text and no base64."""
    from securefl.domain.syft_letters import SharedCollection
    from securefl.domain.syft_rules import collection_hash

    for number, about in enumerate(ABOUT):
        files = {"dataset.yaml": f"name: evil{number}\n{about}\n".encode()}
        shared = SharedCollection(tag=f"evil{number}", content_hash=collection_hash(files), files=files)
        domain.south.mail.send(RESEARCHER, "syft/collection", shared.to_bytes())
    event = json.dumps(
        {
            "events": [
                {"datasite_email": SOUTH, "path_in_datasite": "a/b", "is_deleted": False, "content": "\ud800"}
            ]
        }
    )
    domain.south.mail.send(RESEARCHER, "syft/events", archive("proposed_file_changes.json", event.encode()))
    for topic in ("syft/version", "syft/collection-gone", "syft/nothing", "syft/collection"):
        for body in (b"", b"[[[[", b"\xff\xfe", b"null", b'{"syft_client_version": 5}'):
            domain.south.mail.send(RESEARCHER, topic, body)

    with domain.me.syft() as client:
        client.sync()
        client.sync()
    assert {"records"} <= {d.name for d in domain.me.datasets()}
    goes_on(domain)


def test_the_private_records_leave_nothing_in_the_folder_or_at_the_researcher(domain):
    """Neither in the clear nor by Syft's habit of keeping a private collection in the storage."""
    domain.propose()
    domain.north.requests()
    assert [d.name for d in domain.me.datasets()] == ["records", "records"]
    elsewhere = [domain.relay, domain.me.home, domain.north.home, domain.south.home]
    for path in (p for folder in elsewhere for p in folder.rglob("*") if p.is_file()):
        assert CANARY.encode() not in path.read_bytes(), path
