"""Folders from which a consortium runs: one for each member, as processes, containers or on Kubernetes."""

from securefl.deploy.folders import gather, init, make_member_folder
from securefl.deploy.health import check
from securefl.deploy.joining import join, put_study
from securefl.deploy.renewal import renew

__all__ = ["check", "gather", "init", "join", "make_member_folder", "put_study", "renew"]
