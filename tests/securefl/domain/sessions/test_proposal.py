"""What a proposal's signature covers, and what is taken out of a Syft job."""

from __future__ import annotations

import os

import pytest

from protocols.errors import EncodingError
from protocols.signing import SigningKey
from securefl.domain.errors import ProposalError
from securefl.domain.proposal import (
    Proposal,
    SignedProposal,
    Site,
    check_study,
    file_digests,
    members_of,
    read_job,
    take_study,
    write_job,
)
from securefl.study import Study

KEY = SigningKey(bytes(range(32)))


@pytest.fixture
def study(members, tmp_path) -> Study:
    import shutil

    from tests.securefl.domain.sessions.conftest import STUDY

    shutil.copytree(STUDY, tmp_path / "study")
    shutil.copy(members / "public" / "consortium.toml", tmp_path / "study")
    return Study.load(tmp_path / "study")


def proposal(study: Study, **changes: object) -> Proposal:
    values = {
        "number": bytes(16), "researcher": "me@lab.example", "title": "Heart disease", "purpose": "to see",
        "study": study.digest(members_of(study).digest()), "files": file_digests(study),
        "sites": [Site(steward=f"s@{h}.example", hospital=h, dataset="heart") for h in ("north", "south")],
        "operators": ["ops@hub.example"], "approver": "s@north.example", "created": 1, **changes,
    }  # fmt: skip
    return Proposal(**values)


@pytest.fixture
def job(study, tmp_path):
    write_job(tmp_path / "code", SignedProposal.sign(proposal(study), KEY), study.files)
    return tmp_path / "code"


def test_a_job_brings_the_study_that_was_signed(job, study, tmp_path):
    signed = read_job(job)
    asked = signed.check("me@lab.example", KEY.public)
    taken = take_study(job, asked, tmp_path / "home" / "study")
    assert taken.files == study.files
    assert check_study(tmp_path / "home" / "study", asked).settings == study.settings
    assert (tmp_path / "home" / "study" / "study.toml").stat().st_mode & 0o077 == 0


def test_somebody_elses_name_or_key_is_refused(job):
    signed = read_job(job)
    with pytest.raises(ProposalError, match=r"in the name of me@lab\.example"):
        signed.check("other@lab.example", KEY.public)
    with pytest.raises(ProposalError, match="not signed by the pinned key"):
        signed.check("me@lab.example", SigningKey.generate().public)


def changed(job, study):
    (job / "study" / "records.py").write_text("SHAPE = 1\n")


def missing(job, study):
    (job / "study" / "records.py").unlink()


def linked(job, study):
    target = job.parent / "elsewhere.py"
    target.write_bytes((job / "study" / "records.py").read_bytes())
    (job / "study" / "records.py").unlink()
    (job / "study" / "records.py").symlink_to(target)


def linked_folder(job, study):
    (job / "study").rename(job.parent / "moved")
    os.symlink(job.parent / "moved", job / "study")


@pytest.mark.parametrize("attack", [changed, missing, linked, linked_folder])
def test_a_job_whose_files_are_not_the_signed_ones_leaves_nothing(job, study, tmp_path, attack):
    asked = read_job(job).proposal
    attack(job, study)
    with pytest.raises(ProposalError):
        take_study(job, asked, tmp_path / "home" / "study")
    assert not (tmp_path / "home").exists() or not any((tmp_path / "home").iterdir())


def test_a_python_file_that_nobody_signed_is_not_copied_and_not_accepted(job, study, tmp_path):
    asked = read_job(job).proposal
    (job / "study" / "extra.py").write_text("print('hello')\n")
    take_study(job, asked, tmp_path / "home" / "study")
    assert not (tmp_path / "home" / "study" / "extra.py").exists()
    (tmp_path / "home" / "study" / "extra.py").write_text("print('hello')\n")
    with pytest.raises(ProposalError, match="is not the one that was proposed"):
        check_study(tmp_path / "home" / "study", asked)


@pytest.mark.parametrize(
    "changes",
    [
        {"title": "Heart\n------\nPrivacy"}, {"purpose": "a\rb"}, {"number": b""}, {"number": bytes(17)},
        {"files": {"../../evil": bytes(32)}}, {"files": {"/etc/passwd": bytes(32)}}, {"files": {"a\0b": bytes(32)}},
        {"files": {"a": bytes(31)}}, {"study": bytes(5)}, {"approver": ""}, {"title": "x" * 501},
    ],
)  # fmt: skip
def test_a_proposal_that_could_mislead_has_no_form(study, changes):
    good = proposal(study)
    body = {**good.body(), **changes}
    with pytest.raises(ValueError, match=r"validation error"):
        Proposal.model_validate(body)
    assert Proposal.model_validate(good.body()) == good  # the control


def test_bytes_that_are_no_proposal_are_refused(job):
    (job / "proposal.hex").write_text("zz")
    with pytest.raises(ProposalError):
        read_job(job)
    (job / "proposal.hex").write_text(SignedProposal.prefix().hex())
    with pytest.raises(ProposalError):
        read_job(job)
    with pytest.raises(EncodingError):
        SignedProposal.from_bytes(b"")


def test_a_proposal_that_leaves_a_hospital_out_is_not_its_studys(study, tmp_path):
    asked = proposal(study, sites=[Site(steward="s@north.example", hospital="north", dataset="heart")])
    with pytest.raises(ProposalError, match="does not ask every hospital"):
        check_study(study.folder, asked)


def test_a_study_that_is_not_text_cannot_travel(study, tmp_path):
    with pytest.raises(ProposalError, match="is not text"):
        write_job(tmp_path / "x", SignedProposal.sign(proposal(study), KEY), {"model.py": b"\xff\xfe"})


def test_names_differ_by_every_byte(study):
    assert proposal(study).name.startswith("heart-disease-")
    assert proposal(study).name != proposal(study, purpose="to look").name


def test_a_study_whose_code_hides_from_its_readers_is_neither_proposed_nor_taken(stage):
    """The researcher's own session refuses it; whoever signs and sends it all the same is refused at the steward's."""
    (stage.study / "evil.py").write_bytes(b"# coding: utf-7\n# harmless +AAo-HIDDEN = 'ran'\n")
    with pytest.raises(ProposalError, match=r"evil\.py declares the encoding utf-7"):
        stage.propose()
    study = Study.load(stage.study)
    signed = SignedProposal.sign(proposal(study), KEY)
    write_job(stage.root / "code", signed, study.files)
    with pytest.raises(ProposalError, match=r"evil\.py declares the encoding utf-7"):
        take_study(stage.root / "code", signed.proposal, stage.root / "taken" / "study")
    assert not (stage.root / "taken" / "study").exists()
