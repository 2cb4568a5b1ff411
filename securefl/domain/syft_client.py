"""Syft's own client over a person's mail: no network, no account, nothing of Syft's changed.

It names and carries: datasets, jobs, status, results. It decides nothing. Its runner, which would run a job's script as
the owner, is off.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from securefl import durable
from securefl.domain.errors import SyftMessageError, UnknownPeerError
from securefl.domain.identity import Identity
from securefl.domain.mail import Mail
from securefl.domain.peers import Peers

if TYPE_CHECKING:
    from syft_rds import SyftRDSClient

CHATTER = "syft.log"
LONGEST_CHATTER = 2**20
_LOGGERS = ("syft", "syft_rds", "syft_job", "syft_datasets", "syft_perms")


@contextmanager
def quietly(home: Path) -> Iterator[None]:
    """While this holds, what Syft prints and logs goes to ``home/syft.log``, which is kept short."""
    path = durable.private_folder(Path(home)) / CHATTER
    too_long = path.exists() and path.stat().st_size > LONGEST_CHATTER
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if too_long else os.O_APPEND)
    with os.fdopen(os.open(path, flags, durable.PRIVATE_FILE), "a", errors="backslashreplace") as file:
        handler = logging.StreamHandler(file)
        loggers = [logging.getLogger(name) for name in _LOGGERS]
        # Syft's own handler writes to the terminal; without any, it makes one when it is imported.
        before = [
            (logger, logger.handlers or [logging.NullHandler()], logger.propagate) for logger in loggers
        ]
        for logger in loggers:
            logger.handlers, logger.propagate = [handler], False
        try:
            with redirect_stdout(file), redirect_stderr(file):
                yield
        finally:
            for logger, handlers, propagate in before:
                logger.handlers, logger.propagate = handlers, propagate


def build(identity: Identity, peers: Peers, mail: Mail, home: Path, owner: bool) -> SyftRDSClient:
    """Syft's client for one person.

    Args:
        identity: who.
        peers: whom it knows; Syft knows nobody else, and forgets whom it removes.
        mail: its letters.
        home: its home; Syft's folder is ``home/syft``.
        owner: whether it has a datasite with datasets and jobs of others; else it sends jobs.

    Raises:
        RelayError: the share is full or not there.
    """
    with quietly(home):
        return _build(identity, peers, mail, Path(home).absolute(), owner)


def _build(identity: Identity, peers: Peers, mail: Mail, home: Path, owner: bool) -> SyftRDSClient:
    from syft.sync.syftbox_manager import SyftboxManagerConfig, default_collections_folder
    from syft.sync.sync.caches.datasite_owner_cache import DataSiteOwnerEventCacheConfig
    from syft.sync.sync.caches.datasite_watcher_cache import DataSiteWatcherCacheConfig
    from syft.sync.sync.datasite_owner_syncer import DatasiteOwnerSyncerConfig
    from syft.sync.sync.datasite_watcher_syncer import DatasiteWatcherSyncerConfig
    from syft.sync.version.peer_manager import PeerManagerConfig
    from syft_job import SyftJobConfig
    from syft_rds import SyftRDSClient
    from syft_rds.config import DATASET_COLLECTION_SPECS, SyftBoxConfig, SyftRDSClientConfig

    from securefl.domain.connection import SealedConfig, SealedConnection

    email, box = identity.email, durable.private_folder(home / "syft")
    connection = SealedConnection(mail, peers, box, owner)
    configs = [SealedConfig(connection=connection)]
    collections = default_collections_folder(box, email, DATASET_COLLECTION_SPECS)
    specs = DATASET_COLLECTION_SPECS
    sync = SyftboxManagerConfig(
        email=email,
        syftbox_folder=box,
        has_do_role=owner,
        has_ds_role=not owner,
        use_in_memory_cache=False,
        datasite_owner_syncer_config=DatasiteOwnerSyncerConfig(
            email=email,
            syftbox_folder=box,
            collections_folder=collections,
            collection_specs=specs,
            connection_configs=configs,
            cache_config=DataSiteOwnerEventCacheConfig(
                email=email, use_in_memory_cache=False, syftbox_folder=box, collections_folder=collections
            ),
        ),
        datasite_watcher_syncer_config=DatasiteWatcherSyncerConfig(
            email=email,
            syftbox_folder=box,
            connection_configs=configs,
            datasite_watcher_cache_config=DataSiteWatcherCacheConfig(
                email=email,
                use_in_memory_cache=False,
                syftbox_folder=box,
                collection_specs=specs,
                connection_configs=configs,
            ),
        ),
        peer_manager_config=PeerManagerConfig(
            email=email,
            syftbox_folder=box,
            connection_configs=configs,
            has_do_role=owner,
            has_ds_role=not owner,
            use_encryption=False,  # every letter is sealed; Syft's own keys would be a second, weaker system
        ),
    )
    client = SyftRDSClient.from_config(
        SyftRDSClientConfig(
            sync=sync,
            job=SyftJobConfig(syftbox_folder=box, current_user_email=email, has_do_role=owner),
            dataset=SyftBoxConfig(syftbox_folder=box, email=email),
        )
    )
    client.job_runner = None
    _look(client)
    if owner:
        for card in peers.all():
            _let_in(client, card.email)
    return client


def admit(client: SyftRDSClient, peer: str) -> None:
    """Let a pinned person send jobs to this owner's datasite; nothing if it may already.

    Raises:
        UnknownPeerError: nobody of that name is pinned.
    """
    _look(client)
    if peer not in {known.email for known in client.peer_manager.approved_peers}:
        raise UnknownPeerError(f"{peer} is not known here: compare its fingerprint and accept it first.")
    _let_in(client, peer)


def _look(client: SyftRDSClient) -> None:
    # Under Syft's own lock, as its sync does: another session of this person may be in the middle of one.
    with client.sync_engine.sync_file_lock():
        client.load_peers()


def _let_in(client: SyftRDSClient, peer: str) -> None:
    folder = client.job_client.config.get_all_submissions_dir(client.email) / peer
    if not folder.exists():
        client.approve_peer_request(peer, verbose=False, peer_must_exist=False)


def check_code(code: Path) -> None:
    """Raise SyftMessageError unless a job's folder holds text only, before Syft begins to send it.

    Syft's jobs are text, and it stops half-way at a file that is not: the rest would go with the next job.
    """
    for path in sorted(Path(code).rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise SyftMessageError(f"{path} is not an ordinary file: a job brings text files only.")
        if path.is_file():
            try:
                path.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise SyftMessageError(
                    f"{path} is not text, and Syft's jobs are text only: write it in hexadecimal or base64."
                ) from error
