"""Stages the walkthrough: makes the members, hands out the data, starts every person as a process, tells the story.

    python examples/hospital_consortium/walkthrough.py --out runs/consortium

What the people do stands in ``people.py``. Everything is real: keys, TLS, Flower, the committee, 740 patients.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import people
from sights import show_sights

from securefl import deploy, domain
from securefl.data.fed_heart import CODES, NUMBERS, read_heart

HERE = Path(__file__).resolve().parent
HOSPITALS = ["cleveland", "hungary", "switzerland", "va"]
PARTIES = ["registry", "university"]
STEWARDS = [f"{name}@hospital.example" for name in HOSPITALS]
OPERATORS = ["coordinator@hub.example", *(f"{name}@committee.example" for name in PARTIES)]
RESEARCHER = "researcher@lab.example"
COLUMNS = [*NUMBERS, *CODES]
MINUTES = 30


def main() -> None:
    """Stage it, and end with what each could see."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--be", nargs=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    out = arguments.out.absolute()
    if arguments.be:
        be(arguments.be[0], out)
        return
    if out.exists():
        if not (out / "walkthrough").exists():
            sys.exit(f"Error: {out} is not of an earlier walkthrough: choose another folder.")
        shutil.rmtree(out)
    stage(out)
    began = time.monotonic()
    with Cast(out, began) as cast:
        for email in [*OPERATORS, *STEWARDS, RESEARCHER]:
            cast.start(email)
        cast.wait_for(RESEARCHER, MINUTES * 60)
    told("audience", "checks the record, with public keys alone", began)
    for look in ("verify", "audit"):
        subprocess.run(
            [
                *(sys.executable, "-P", "-m", "securefl", look, str(out / "model")),
                *("--consortium", str(out / "members" / "public" / "consortium.toml")),
            ],
            check=True,
        )  # fmt: skip
    show_sights(out, HOSPITALS, PARTIES)


def stage(out: Path) -> None:
    """Each member makes its own keys; one gathers the cards; the data are where the hospitals keep them."""
    out.mkdir(parents=True)
    (out / "walkthrough").touch()
    (out / "relay").mkdir()
    folders = out / "folders"
    identity = os.urandom(8).hex()
    for rank, name in enumerate(PARTIES):
        deploy.make_member_folder(folders / name, name, "party", rank, identity)
    for name in HOSPITALS:
        deploy.make_member_folder(folders / name, name, "hospital", 0, identity)
    ports = free_ports(2 + len(PARTIES))
    mesh = {name: f"127.0.0.1:{port}" for name, port in zip(PARTIES, ports[2:], strict=True)}
    cards = [folders / name / "card.toml" for name in [*PARTIES, *HOSPITALS]]
    deploy.gather(out / "members", cards, f"127.0.0.1:{ports[0]}", mesh, local_port=ports[1])
    for name in [*PARTIES, *HOSPITALS]:
        deploy.join(folders / name, out / "members" / "public")
    (out / "members" / "coordinator").rename(folders / "coordinator")
    shutil.copytree(HERE / "study", out / "study")
    shutil.copy(out / "members" / "public" / "consortium.toml", out / "study")
    records, sites = read_heart()
    for number, name in enumerate(HOSPITALS):
        mine = [
            (x, y)
            for x, y, site in zip(records.features, records.labels, sites, strict=True)
            if site == number
        ]
        write_table(out / "data" / name / "private", mine)
        mock = [([50, 130, 220, 140, 1, k % 2, k % 4, 0, 0, 0], k % 2) for k in range(12)]
        write_table(out / "data" / name / "mock", mock)


def write_table(folder: Path, rows) -> None:  # type: ignore[no-untyped-def]
    """``records.csv``, as each hospital's own system would write it."""
    folder.mkdir(parents=True, mode=0o700)
    with (folder / "records.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, "disease"])
        writer.writerows([f"{value:g}" for value in x] + [int(y)] for x, y in rows)


def be(email: str, out: Path) -> None:
    """One person's process."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    home, relay = out / "homes" / email, out / "relay"
    who = email.split("@")[0]

    def tell(text: str) -> None:
        print(text, flush=True)

    if email in OPERATORS:
        folder = out / "folders" / who
        say_fingerprint(out, domain.operator(email, home, relay, folder))
        known = [RESEARCHER, *STEWARDS, *(other for other in OPERATORS if other != email)]
        people.operator(email, home, relay, folder, listen(out, known), tell)
    elif email in STEWARDS:
        folder = out / "folders" / who
        say_fingerprint(out, domain.owner(email, home, relay, folder))
        people.steward(
            email, home, relay, folder, out / "data" / who, listen(out, [RESEARCHER, *OPERATORS]), tell
        )
    else:
        say_fingerprint(out, domain.researcher(email, home, relay))
        people.researcher(
            email, home, relay, out / "study", listen(out, [*STEWARDS, *OPERATORS]), STEWARDS, OPERATORS,
            out / "model", tell,
        )  # fmt: skip


def say_fingerprint(out: Path, session) -> None:  # type: ignore[no-untyped-def]
    """The telephone: outside of the shared folder."""
    (out / "telephone").mkdir(exist_ok=True)
    said = out / "telephone" / f".{session.email}"
    said.write_text(session.fingerprint)
    said.rename(out / "telephone" / session.email)


def listen(out: Path, peers: list[str]) -> dict[str, str]:
    """What the others read out."""
    for _ in people.every(0.2):
        if all((out / "telephone" / peer).exists() for peer in peers):
            return {peer: (out / "telephone" / peer).read_text() for peer in peers}
    raise AssertionError


class Cast:
    """The people's processes."""

    def __init__(self, out: Path, began: float) -> None:
        self._out, self._began = out, began
        self._running: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Cast:
        return self

    def __exit__(self, *raised: object) -> None:
        for process in self._running.values():
            if process.poll() is None:
                process.terminate()
        for process in self._running.values():
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()

    def start(self, email: str) -> None:
        """Start one; its lines are told as they come, what goes wrong stands in its log."""
        (self._out / "logs").mkdir(exist_ok=True)
        with (self._out / "logs" / f"{email}.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, __file__, "--out", str(self._out), "--be", email],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
            )  # fmt: skip
        self._running[email] = process
        threading.Thread(target=self._repeat, args=(email, process), daemon=True).start()

    def wait_for(self, email: str, seconds: float) -> None:
        """Wait until one has ended; a process that fails ends the walkthrough with its last words."""
        end = time.monotonic() + seconds
        while self._running[email].poll() is None:
            for other, process in self._running.items():
                if process.poll() not in (None, 0):
                    self._fail(other)
            if time.monotonic() > end:
                sys.exit(f"Error: not finished after {seconds / 60:g} minutes; see {self._out / 'logs'}.")
            time.sleep(0.5)
        if self._running[email].returncode != 0:
            self._fail(email)

    def _fail(self, email: str) -> None:
        words = (self._out / "logs" / f"{email}.log").read_text().strip().splitlines()[-1:]
        sys.exit(f"Error: the process of {email} ended: {words[0] if words else 'without a word'}.")

    def _repeat(self, email: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            told(email.split("@")[0], line.rstrip("\n"), self._began)


def told(who: str, text: str, began: float) -> None:
    """A line of the story."""
    print(f"{time.monotonic() - began:6.0f} s  {who:<12} {text}", flush=True)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


if __name__ == "__main__":
    main()
