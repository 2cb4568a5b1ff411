"""The command line. Each command imports what it needs when it runs, so that ``--help`` stays quick."""

from securefl.cli.app import main

__all__ = ["main"]
