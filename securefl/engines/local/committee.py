"""The parties of a run, and its dealer, as processes of this computer."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from securefl import durable
from securefl.consortium import Consortium
from securefl.engines.coordination import GRACE, Deliver
from securefl.engines.local.children import Child, free_ports
from securefl.engines.local.mailboxes import MAX_STARTS, Mailboxes, Observe
from securefl.errors import EngineError
from securefl.roles.terms import Terms
from securefl.run_folder import RunFolder
from securefl.study import Study


class LocalCommittee:
    """Starts and replaces the processes. They live no longer than this one.

    Args:
        run: its folder, prepared.
        study, consortium, terms: what runs, among whom.
        base_port: first port of the parties' mesh; free ones are found if None.
    """

    def __init__(
        self, run: RunFolder, study: Study, consortium: Consortium, terms: Terms, base_port: int | None
    ) -> None:
        self._run, self._study, self._consortium, self._terms = run, study, consortium, terms
        durable.private_folder(run.logs)
        ports = free_ports(len(terms.parties) + terms.checks_norms, base_port)
        self.sockets = Path(tempfile.mkdtemp(prefix="securefl-"))
        addresses = [f"127.0.0.1:{port}" for port in ports]
        self._parties = {
            name: self._party(name, address, addresses)
            for name, address in zip(terms.parties, addresses, strict=False)
        }
        self._dealer = self._make_dealer(addresses) if terms.checks_norms else None
        self._dealer_starts = 1

    def consortium_file(self) -> Path:
        """Where the pinned keys stand."""
        file = self._study.settings.consortium.file
        return self._study.folder / file if file else self._run.consortium_file

    def keys_folder(self) -> Path:
        """Where the members' private keys lie: beside the consortium file."""
        file = self._study.settings.consortium.file
        return (self._study.folder / file).parent / "keys" if file else self._run.keys

    def common(self, home: Path, socket: Path) -> list[str]:
        """Arguments that a party's and a hospital's command share."""
        return [
            "--study", str(self._study.folder),
            "--consortium", str(self.consortium_file()),
            "--keys", str(self.keys_folder()),
            "--home", str(home),
            "--socket", str(socket),
            "--exhibits", str(self._run.exhibits),
            "--leashed",
            *(["--insecure-unchecked"] if self._terms.unchecked else []),
        ]  # fmt: skip

    def _party(self, name: str, address: str, addresses: list[str]) -> Child:
        socket = self.sockets / f"{name}.sock"
        arguments = ["party", "serve", name, *self.common(self._run.homes / name, socket)]
        arguments += ["--listen", address]
        for peer in addresses:
            arguments += ["--peer", peer]
        return Child(name, arguments, socket, self._run.logs / f"{name}.log")

    def _make_dealer(self, addresses: list[str]) -> Child:
        dealer = self._consortium.dealer
        name = dealer.name if dealer else ""  # the terms have seen to it that there is one
        socket = self.sockets / f"{name}.sock"
        arguments = [
            "dealer", "serve", name,
            "--consortium", str(self.consortium_file()),
            "--keys", str(self.keys_folder()),
            "--socket", str(socket),
            "--listen", addresses[-1],
            "--leashed",
        ]  # fmt: skip
        for peer in addresses:
            arguments += ["--peer", peer]
        return Child(name, arguments, socket, self._run.logs / f"{name}.log")

    def children(self) -> list[Child]:
        """The processes."""
        return [*self._parties.values(), *([self._dealer] if self._dealer else [])]

    def boxes(self, deliver: Deliver, observe: Observe) -> dict[str, Mailboxes]:
        """A running mailbox for each party."""
        seconds = self._terms.party_seconds * 2 + GRACE
        return {
            party: Mailboxes([party], [child], seconds, deliver, observe, spared=True)
            for party, child in self._parties.items()
        }

    def look_after_dealer(self) -> None:
        """Replace a dealer that ended.

        Nobody sends it messages, so that nobody would notice; the parties' session ends with it, and is formed anew.

        Raises:
            EngineError: it ends again and again.
        """
        if self._dealer is None or self._dealer.is_alive():
            return
        self._dealer_starts += 1
        if self._dealer_starts > MAX_STARTS:
            raise EngineError(
                f"{self._dealer.name} ended {MAX_STARTS} times: see its log, and run again with --resume."
            )
        self._dealer.replace()

    def close(self) -> None:
        """Remove the sockets; the processes must be gone."""
        shutil.rmtree(self.sockets, ignore_errors=True)


def start_all(children: list[Child]) -> None:
    """Start processes side by side, and wait until all serve.

    Raises:
        EngineError: one does not start.
    """
    for child in children:
        child.start()
    for child in children:
        child.wait()
