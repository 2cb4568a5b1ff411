"""What of a letter may reach Syft. Every refused message is an allowed one with one thing changed."""

from __future__ import annotations

import base64
import copy
import gzip
import io
import json
import tarfile

import pytest

from securefl.domain import syft_rules
from securefl.domain.errors import SyftMessageError
from securefl.domain.syft_rules import Change, check_collection, collection_hash, read_changes, read_job
from tests.work import calls

SENDER, ME = "researcher@lab.example", "steward@north.example"
FOLDER = f"app_data/job/inbox/{SENDER}/v1/job-1"


def _packed(value, name="proposed_file_changes.json"):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return archive.getvalue()


def _change(path, content, **more):
    return {
        "path_in_datasite": path, "content": content, "content_type": "text", "datasite_email": ME, "old_hash": None,
        "new_hash": "x", "is_deleted": False, "submitted_timestamp": 1.0, "id": "y", **more,
    }  # fmt: skip


def _job():
    files = {"config.yaml": "name: job-1\ntype: python\n", "run.sh": "true\n", "code/main.py": "print(1)\n"}
    changes = [_change(f"{FOLDER}/{path}", content) for path, content in files.items()]
    return {"id": "z", "sender_email": SENDER, "message_filename": {}, "proposed_file_changes": changes}


def _read(message):
    return read_job(_packed(message), SENDER, ME, "1")


def test_a_new_job_is_read():
    job = _read(_job())
    assert (job.name, job.folder) == ("job-1", FOLDER)
    assert job.files[f"{FOLDER}/code/main.py"] == "print(1)\n"


def _set(index, **fields):
    def change(message):
        message["proposed_file_changes"][index].update(fields)

    return change


def _add(path, content="x", **fields):
    return lambda message: message["proposed_file_changes"].append(_change(path, content, **fields))


OTHER = "other@south.example"
BAD_JOBS = {
    "spoofed-sender": lambda m: m.update(sender_email=ME),
    "no-sender": lambda m: m.pop("sender_email"),
    "unknown-field": lambda m: m.update(platform_id="1"),
    "nothing": lambda m: m.update(proposed_file_changes=[]),
    "no-list": lambda m: m.update(proposed_file_changes={"0": 1}),
    "no-maps": lambda m: m.update(proposed_file_changes=["x"]),
    "other-datasite": _set(2, datasite_email=OTHER),
    "own-approval": _add(f"app_data/job/review/{SENDER}/v1/job-1/state.yaml", "status: approved"),
    "approval-alone": lambda m: m.update(
        proposed_file_changes=[
            _change(f"app_data/job/review/{SENDER}/v1/job-1/state.yaml", "status: approved")
        ]
    ),
    "anothers-inbox": _add(f"app_data/job/inbox/{OTHER}/v1/job-1/code/x.py"),
    "other-protocol": _add(f"app_data/job/inbox/{SENDER}/v0/job-1/code/x.py"),
    "traversal": _add(f"{FOLDER}/code/../../../../../../public/x"),
    "traversal-out-of-the-box": _add(f"{FOLDER}/../../../../../../../evil"),
    "absolute": _add("/etc/cron.d/x"),
    "dot": _add(f"{FOLDER}/code/./x"),
    "empty-part": _add(f"{FOLDER}/code//x"),
    "backslash": _add(f"{FOLDER}/code/..\\x"),
    "control-character": _add(f"{FOLDER}/code/a\nb"),
    "zero": _add(f"{FOLDER}/code/a\0b"),
    "binary-name": _add(f"{FOLDER}/code/\udcff"),
    "oversized-name": _add(f"{FOLDER}/code/{'a' * 101}"),
    "oversized-path": _add(f"{FOLDER}/code/" + "/".join(["a" * 90] * 4)),
    "deep": _add(f"{FOLDER}/code/" + "/".join("abcdefghijkl")),
    "hidden": _add(f"{FOLDER}/code/.git"),
    "permission-file": _add(f"{FOLDER}/code/syft.pub.yaml"),
    "permission-file-in-capitals": _add(f"{FOLDER}/code/Syft.Pub.YAML"),
    "permission-file-above": _add(f"app_data/job/inbox/{SENDER}/syft.pub.yaml"),
    "path-is-a-number": _set(2, path_in_datasite=7),
    "no-path": _set(2, path_in_datasite=None),
    "deletion": _add(f"{FOLDER}/code/x", None, is_deleted=True),
    "change-of-a-file": _set(2, old_hash="0" * 64),
    "binary-content": _set(2, content="aGk=", content_type="binary"),
    "no-content": _set(2, content=None),
    "twice": _add(f"{FOLDER}/code/main.py"),
    "apart-by-capitals": _add(f"{FOLDER}/code/MAIN.py"),
    "file-and-folder": _add(f"{FOLDER}/code/main.py/x"),
    "two-jobs": _add(f"app_data/job/inbox/{SENDER}/v1/job-2/code/x"),
    "extra-file": _add(f"{FOLDER}/extra"),
    "no-config": lambda m: m["proposed_file_changes"].pop(0),
    "no-run": lambda m: m["proposed_file_changes"].pop(1),
    "no-code": lambda m: m["proposed_file_changes"].pop(2),
    "config-of-another": _set(0, content=f"submitted_by: {OTHER}"),
    "config-of-another-job": _set(0, content="name: job-2"),
    "config-not-yaml": _set(0, content="a: [b"),
    "config-no-map": _set(0, content="- a"),
    "config-with-a-python-object": _set(0, content="a: !!python/object/apply:os.system [id]"),
    "config-with-aliases": _set(0, content="a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"),
    "config-too-long": _set(0, content="a: " + "x" * 2**15),
    "config-of-brackets": _set(0, content="[" * 10_000),
    "config-of-braces": _set(0, content="a: " + "{b: " * 2_000),
    "config-with-deep-lists": _set(0, content="a:\n  " + "- " * 5_000),
    "config-with-deep-keys": _set(0, content="? " * 5_000),
    "config-with-a-number-past-all-floats": _set(0, content="a: 1" + ":1" * 5_000 + ".5"),
    "config-with-a-number-past-all-integers": _set(0, content="a: " + "9" * 10_000),
    "no-unicode": _set(2, content="\ud800"),
    "config-no-unicode": _set(0, content="a: \ud800"),
    "many-files": lambda m: [_add(f"{FOLDER}/code/f{i}")(m) for i in range(500)],
}


@pytest.mark.parametrize("how", BAD_JOBS)
def test_a_job_that_asks_for_more_is_refused(how):
    message = _job()
    assert _read(copy.deepcopy(message))  # the control
    BAD_JOBS[how](message)

    def refused():
        with pytest.raises(SyftMessageError):
            _read(message)

    assert calls(refused) < 20_000  # a good one takes 2,000


def test_a_description_as_large_as_may_be_takes_no_more_than_its_length():
    """Syft reads it too, at every look at its jobs."""

    def work(entries):
        message = _job()
        lines = "".join(f"k{i}: [a, {{b: c}}]\n" for i in range(90)) + "d:\n" + "- a: b\n" * entries
        message["proposed_file_changes"][0]["content"] = lines
        assert len(lines) < syft_rules.LARGEST_CONFIG
        return calls(lambda: _read(message))

    assert work(2_000) < 2.2 * work(1_000) < 2_500_000


def test_what_does_not_unpack_is_refused(monkeypatch):
    good = _packed(_job())
    assert read_job(good, SENDER, ME, "1")
    bad = {
        "empty": b"",
        "text": b"hello",
        "cut off": good[:-1],
        "followed by more": good + b"x",
        "two members": good + good,
        "no archive": gzip.compress(b"x" * 2000),
        "another name": _packed(_job(), "other.json"),
        "no json": _packed(b"{"),
        "a list": _packed([1]),
        "deep": _packed(b"[" * 100_000),
        "numbers": _packed(b'{"sender_email": ' + b"9" * 10_000 + b"}"),
        "no text": _packed(b"\xff\xfe{}"),
    }
    for data in bad.values():
        with pytest.raises(SyftMessageError):
            read_job(data, SENDER, ME, "1")


def test_a_bomb_is_not_unpacked(monkeypatch):
    monkeypatch.setattr(syft_rules, "LARGEST_JOB", 2**16)
    bomb = _packed(b" " * 2**26)
    assert len(bomb) < 2**17
    with pytest.raises(SyftMessageError, match="unpacks to more than 65,536 bytes"):
        read_job(bomb, SENDER, ME, "1")


def test_a_link_or_a_sparse_file_in_the_archive_is_not_followed():
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        info = tarfile.TarInfo("proposed_file_changes.json")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(info)
    with pytest.raises(SyftMessageError):
        read_job(archive.getvalue(), SENDER, ME, "1")


def _events():
    event = {
        "path_in_datasite": "app_data/job/review/a/state.yaml",
        "datasite_email": SENDER,
        "is_deleted": False,
    }
    return {
        "events": [
            {**event, "content": "status: done", "content_type": "text"},
            {**event, "path_in_datasite": "out/res.bin", "content": base64.b64encode(b"\0\xff").decode(),
             "content_type": "binary"},
            {**event, "path_in_datasite": "out/syft.pub.yaml", "content": "rules: []", "content_type": "text"},
            {**event, "path_in_datasite": "old.txt", "is_deleted": True, "content": None, "content_type": None},
        ],
        "message_filepath": {},
    }  # fmt: skip


def test_changes_of_the_owners_own_datasite_are_read():
    assert read_changes(_packed(_events()), SENDER) == [
        Change("app_data/job/review/a/state.yaml", "status: done"),
        Change("out/res.bin", b"\0\xff"),
        Change("out/syft.pub.yaml", "rules: []"),
        Change("old.txt", None),
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"datasite_email": ME},
        {"datasite_email": f"{SENDER}/../{ME}"},
        {"path_in_datasite": f"../{ME}/app_data/x"},
        {"path_in_datasite": "/etc/x"},
        {"path_in_datasite": "private/syft_datasets/x"},
        {"content": None},
        {"content": 7},
        {"is_deleted": True},
        {"is_deleted": 1},
        {"content": "***", "content_type": "binary"},
        {"content": "\ud800"},
        {"content": "- " * 10_000},
        {"content": "["},
        {"content": base64.b64encode(b"[" * 10_000).decode(), "content_type": "binary"},
        {"path_in_datasite": "a/syft.pub.yaml", "content": "[" * 10_000},
        {"path_in_datasite": "public/syft_datasets/mri/dataset.yaml", "content": "a: " + "{" * 10_000},
        {"path_in_datasite": f"app_data/job/inbox/{ME}/v1/job-1/config.yaml", "content": "[" * 10_000},
    ],
)
def test_changes_of_anything_else_are_refused(fields):
    message = _events()
    message["events"][0].update(fields)
    with pytest.raises(SyftMessageError):
        read_changes(_packed(message), SENDER)


def test_results_are_the_studys_business_whatever_their_names():
    message = _events()
    for path in (f"app_data/job/review/{ME}/v1/job-1/outputs/config.yaml", "public/state.yaml", "state.yaml"):
        message["events"][0].update(path_in_datasite=path, content="[" * 10_000)
        assert read_changes(_packed(message), SENDER)[0].content == "[" * 10_000


def _dataset(**about):
    fields = {
        "name": "mri",
        "mock_url": f"syft://{SENDER}/public/mri",
        "private_url": f"syft://{SENDER}/private/mri",
    }
    fields.update(mock_files_urls=[f"syft://{SENDER}/public/mri/a.csv"], **about)
    return {"dataset.yaml": json.dumps(fields).encode(), "a.csv": b"1,2", "b.bin": bytes(range(256))}


def test_mock_data_are_taken():
    files = _dataset()
    check_collection(SENDER, "mri", collection_hash(files), files)


@pytest.mark.parametrize(
    "name", ["../a", "a/b", ".hidden", "a\nb", "syft.pub.yaml", "A.CSV", "", "a" * 101, "\udcff"]
)
def test_mock_data_with_bad_names_are_refused(name):
    files = {**_dataset(), name: b""}
    with pytest.raises(SyftMessageError):
        check_collection(SENDER, "mri", collection_hash(files) if name.isascii() else "0" * 12, files)


@pytest.mark.parametrize(
    "about",
    [
        {"name": "other"},
        {"mock_url": f"syft://{ME}/public/mri"},
        {"mock_url": f"syft://{SENDER}/../{ME}/private"},
        {"readme_url": "file:///etc/passwd"},
        {"mock_files_urls": [f"syft://{SENDER}/public/mri/../../../{ME}/private/x"]},
        {"mock_files_urls": [7]},
        {"mock_files_urls": 7},
        {"mock_files_urls": {"a": 1}},
    ],
)
def test_a_dataset_that_points_elsewhere_is_refused(about):
    files = {
        **_dataset(),
        "dataset.yaml": json.dumps({**json.loads(_dataset()["dataset.yaml"]), **about}).encode(),
    }
    with pytest.raises(SyftMessageError):
        check_collection(SENDER, "mri", collection_hash(files), files)


def test_other_content_than_its_name_says_or_too_much_is_refused(monkeypatch):
    files = _dataset()
    with pytest.raises(SyftMessageError, match="not the ones"):
        check_collection(SENDER, "mri", "0" * 12, files)
    with pytest.raises(SyftMessageError, match="no plain name"):
        check_collection(SENDER, "../mri", collection_hash(files), files)
    monkeypatch.setattr(syft_rules, "LARGEST_MOCK", 100)
    with pytest.raises(SyftMessageError, match="publish fewer"):
        check_collection(SENDER, "mri", collection_hash(files), files)


def test_our_hash_of_a_collection_is_syfts():
    from syft.sync.file_utils import compute_file_hashes

    assert collection_hash(_dataset()) == compute_file_hashes(_dataset())
