"""The local engine: it starts the parties and the hospitals' processes, and carries the coordinator's messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from securefl.consortium import Consortium
from securefl.engines.coordination import GRACE, Coordination, Follow, RoundWatcher
from securefl.engines.local.children import Child
from securefl.engines.local.committee import LocalCommittee, start_all
from securefl.engines.local.mailboxes import Mailboxes
from securefl.roles.effects import Finished
from securefl.roles.messages import Message
from securefl.roles.replica import Replica
from securefl.roles.terms import Terms
from securefl.run_folder import RunFolder
from securefl.study import Study


class LocalEngine:
    """One run on this computer. Use as a context: the processes live inside it.

    Args:
        run: its folder, prepared.
        study, consortium: what runs, among whom.
        workers: processes for the hospitals.
        base_port: first port of the parties' mesh; free ones are found if None.
    """

    def __init__(
        self, run: RunFolder, study: Study, consortium: Consortium, workers: int, base_port: int | None = None
    ) -> None:
        self._run, self._study = run, study
        self._terms = Terms.of(study, consortium, run.unchecked())
        self._committee = LocalCommittee(run, study, consortium, self._terms, base_port)
        self._coordination = Coordination(run, self._terms, self._committee.look_after_dealer)
        self._workers = [self._worker(i) for i in range(min(workers, len(self._terms.hospitals)))]
        self._boxes: list[Mailboxes] = []

    def privacy_folder(self) -> Path:
        """What hospitals keep over all studies: beside the consortium file; a simulation's in its run."""
        file = self._study.settings.consortium.file
        return (self._study.folder / file).parent / "privacy" if file else self._run.privacy

    def _worker(self, index: int) -> Child:
        name = f"hospitals-{index + 1}"
        socket = self._committee.sockets / f"{name}.sock"
        arguments = ["hospital", "serve", *self._committee.common(self._run.homes, socket)]
        arguments += ["--clear", str(self._run.clear), "--privacy", str(self.privacy_folder())]
        return Child(name, arguments, socket, self._run.logs / f"{name}.log")

    def __enter__(self) -> LocalEngine:
        for half_written in self._run.homes.rglob(".*"):
            half_written.unlink()
        try:
            start_all([*self._committee.children(), *self._workers])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for box in self._boxes:
            box.close()
        for child in [*self._committee.children(), *self._workers]:
            child.kill()
        self._committee.close()

    def drive(
        self,
        replica: Replica,
        sizes: dict[str, int],
        follow: Follow,
        watcher: RoundWatcher,
        stopping: Callable[[], bool],
    ) -> Finished | None:
        """See ``Engine``."""
        observe, deliver = watcher.exchanged, self._coordination.deliver
        parties = self._committee.boxes(deliver, observe)
        hospitals = Mailboxes(
            self._terms.hospitals, self._workers, self._terms.hospital_seconds + GRACE, deliver, observe
        )
        self._boxes += [*parties.values(), hospitals]

        def post(to: str, message: Message) -> None:
            parties.get(to, hospitals).post(to, message)

        return self._coordination.drive(replica, sizes, follow, watcher, stopping, post)
