"""Hospitals as a process: loads a hospital's state, takes one step, persists, and is ready for any other hospital.

On one computer a few of these serve all hospitals of a simulation; nothing but what is on disk passes from one
message to the next (records and the built model are only kept as a cache).
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from protocols.errors import EncodingError
from protocols.ring import signed
from securefl import consortium as members
from securefl import durable
from securefl.consent import NOT_APPROVED, Consent
from securefl.data import HospitalData, load_all, load_hospital
from securefl.engines import exhibits
from securefl.engines.late_trainer import LateTrainer
from securefl.engines.link import LinkServer, Reply
from securefl.errors import ConsortiumError, RefusedError
from securefl.permit import PermitError
from securefl.roles.hospital import ANSWER, MEMORY, HospitalMachine, declined, not_approved
from securefl.roles.host import Answering, Store, home_of
from securefl.roles.messages import Announcement, Declined, Refusal, Settled, read_message
from securefl.roles.refusals import told
from securefl.roles.terms import UPDATE, Terms
from securefl.study import Study
from securefl.training.server import Vector

if TYPE_CHECKING:
    from securefl.privacy import Budget
    from securefl.roles.spending import Spending
    from securefl.training.private import PrivateTrainer
    from securefl.training.trainer import Trainer


BUDGET, EXCEEDED = "budget.toml", "budget-exceeded"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HospitalPlaces:
    """Where hospitals find and keep things; ``keys`` and ``home`` have one folder for each hospital.

    ``{study}`` in ``home`` stands for the study.
    ``exhibits`` and ``clear`` are a simulation's folders for what may be shown and compared; ``unchecked`` is an
    insecure run, see ``Terms``. ``privacy`` has a folder for each hospital with what outlives the study: its privacy
    ledger, and its ``budget.toml`` if it has set a budget. With ``steward`` (32 bytes of public key) a hospital
    contributes only while the permit in ``permit`` allows it.
    """

    study: Path
    consortium: Path
    keys: Path
    home: Path
    socket: Path
    exhibits: Path | None = None
    clear: Path | None = None
    unchecked: bool = False
    privacy: Path | None = None
    permit: Path | None = None
    steward: bytes = b""


class HospitalNode:
    """Takes messages for any hospital of the study."""

    def __init__(self, places: HospitalPlaces) -> None:
        self._places = places
        self._study = Study.load(places.study)
        self._consortium = members.load(places.consortium)
        self._terms = Terms.of(self._study, self._consortium, places.unchecked)
        self._all: dict[str, HospitalData] = {}
        self._trainers: dict[str, LateTrainer] = {}
        self._ledgers: dict[str, Store] = {}
        self._spending: dict[str, Spending] = {}
        self._keys: dict[str, members.MemberKeys] = {}
        self._consents: dict[str, Consent] = {}

    def handle(self, hospital: str, message: bytes) -> Reply:
        """One step of one hospital."""
        if hospital not in self._terms.hospitals:
            raise ConsortiumError(f"{hospital} is not a hospital of this consortium.")
        with self._alone(hospital):
            return self._step(hospital, message)

    @contextmanager
    def _alone(self, hospital: str) -> Iterator[None]:
        """Keep other processes, of other studies, from charging the hospital's ledger at the same time."""
        folder = self._places.privacy
        if self._terms.private is None or folder is None:
            yield
            return
        with (durable.private_folder(folder / hospital) / ".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _step(self, hospital: str, message: bytes) -> Reply:
        store = Store(home_of(self._places.home, self._terms.study) / hospital)
        if (answer := self._not_approved(hospital, message, store)) is not None:
            return Reply([answer])
        if (answer := self._without_limit(hospital, message)) is not None:
            return Reply([answer])
        trainer = self._trainer(hospital)
        keys = self._keys_of(hospital)
        ledger = self._ledger(hospital)
        machine = HospitalMachine(
            hospital, self._terms, keys.signing, keys.sealing, trainer, self._study.settings.server,
            trainer.trainable_size(store), store, self._spending.get(hospital),
            self._consent(hospital),
        )  # fmt: skip
        messages = Answering(machine, store, ledger=ledger).answer(message)
        self._show(hospital, machine.round, trainer.last)
        return Reply(messages, trainer.seconds)

    def _consent(self, hospital: str) -> Consent | None:
        places = self._places
        if not places.steward:
            return None
        if places.permit is None:
            raise ConsortiumError("The hospital has a steward and no folder for permits: name one.")
        if hospital not in self._consents:
            study, private = self._terms.study, self._terms.private is not None
            consent = Consent(places.permit, places.steward, study, hospital, private=private)
            self._consents[hospital] = consent
        return self._consents[hospital]

    def _not_approved(self, hospital: str, data: bytes, store: Store) -> bytes | None:
        """The answer to a message that the steward does not allow, before a record is read or a study's code runs.

        What the hospital has contributed to is brought to its end: outcomes of it, and the check of its sum.
        """
        consent = self._consent(hospital)
        if consent is None or consent.refusal() is None:
            return None
        try:
            message = read_message(data)
        except EncodingError:
            return None  # the machine says so
        if isinstance(message, Announcement):
            answer = declined(consent, message.context, hospital)
            return answer.to_bytes() if answer is not None else None
        contributed = ANSWER in store if isinstance(message, Settled) else MEMORY in store
        sentence = None if contributed else not_approved(consent, hospital)
        if sentence is None:
            return None
        about = type(message).kind
        return Refusal(
            member=hospital, about=about, hospital="", reason=NOT_APPROVED, explanation=sentence
        ).to_bytes()

    def _without_limit(self, hospital: str, data: bytes) -> bytes | None:
        """The answer of a hospital that has a budget to a study whose sums have no noise: they tell without a limit."""
        folder = self._places.privacy
        if self._terms.private is not None or folder is None or not (folder / hospital / BUDGET).exists():
            return None
        try:
            message = read_message(data)
        except EncodingError:
            return None  # the machine says so
        if not isinstance(message, Announcement):
            return None
        log.warning(
            "%s contributes nothing: it has a budget, and the study has no table [privacy].", hospital
        )
        return Declined(
            context=message.context.digest(), hospital=hospital, reason=EXCEEDED, explanation=told(EXCEEDED)
        ).to_bytes()

    def _allowance(self, hospital: str) -> Budget | None:
        """What the permit allows the study now."""
        from securefl.privacy import Budget

        consent = self._consent(hospital)
        try:
            limit = consent.permit().limit() if consent is not None else None
        except PermitError as error:
            raise RefusedError(NOT_APPROVED, str(error)) from error
        return Budget(epsilon=limit[0], delta=limit[1], unit=limit[2]) if limit else None

    def _keys_of(self, hospital: str) -> members.MemberKeys:
        if hospital not in self._keys:
            folder = self._places.keys / hospital
            self._keys[hospital] = members.load_keys(folder, self._consortium.member(hospital))
        return self._keys[hospital]

    def _trainer(self, hospital: str) -> LateTrainer:
        if hospital not in self._trainers:
            self._trainers[hospital] = LateTrainer(partial(self._make_trainer, hospital))
        self._trainers[hospital].begin_step()
        return self._trainers[hospital]

    def _make_trainer(self, hospital: str) -> Trainer | PrivateTrainer:
        # Late: they take torch.
        from securefl.training.determinism import settle
        from securefl.training.trainer import make_trainer

        settle()
        study, private = self._study, self._terms.private
        bits = private.encoding.fraction_bits if private else None
        return make_trainer(study.settings, study.folder, hospital, self._data(hospital), bits)

    def _ledger(self, hospital: str) -> Store | None:
        """A private study's ledger of a hospital, read once: this process is the only one that writes it."""
        private, folder = self._terms.private, self._places.privacy
        if private is None or folder is None:
            return None
        if hospital not in self._ledgers:
            from securefl.privacy import PrivacyLedger, dataset_name, read_budgets
            from securefl.roles.spending import Spending

            store = Store(folder / hospital / "ledger")
            data = self._study.settings.data
            root = self._study.folder / data.root.replace("{hospital}", hospital) if data.root else None
            dataset = dataset_name(data, root)
            budgets = read_budgets(folder / hospital / BUDGET)
            budget = budgets.of(dataset) if budgets else None
            ledger, allowance = PrivacyLedger(dataset, store, budget), partial(self._allowance, hospital)
            self._spending[hospital] = Spending(ledger, private, allowance)
            self._ledgers[hospital] = store
        return self._ledgers[hospital]

    def _data(self, hospital: str) -> HospitalData:
        settings, folder, names = self._study.settings, self._study.folder, list(self._terms.hospitals)
        if not self._study.simulation or settings.data.source == "mri-lesions":
            return load_hospital(settings.data, folder, hospital, names, settings.seed)
        if not self._all:
            self._all = load_all(settings.data, folder, names, settings.seed)
        return self._all[hospital]

    def _show(self, hospital: str, round_: int, update: Vector | None) -> None:
        """What a simulation compares and pictures: the encoded update, in the clear."""
        if update is None or not self._study.simulation:
            return
        try:
            encoded = signed(self._terms.encoding(UPDATE).encode(update))
        except EncodingError:
            return  # it was declined, and nobody saw it
        if self._places.clear is not None and "plaintext" in self._study.settings.baselines:
            from securefl import plaintext

            plaintext.leave(self._places.clear, hospital, round_, encoded)
        first = next(iter(self._terms.hospitals))
        if (
            self._terms.exhibits
            and self._places.exhibits is not None
            and round_ == exhibits.ROUND
            and hospital == first
        ):
            exhibits.keep(self._places.exhibits, f"update-{hospital}", encoded)


def serve_hospitals(places: HospitalPlaces) -> LinkServer:
    """Start to serve; it answers until the process ends."""
    node = HospitalNode(places)
    server = LinkServer(places.socket, node.handle)
    server.start()
    return server
