"""The command line: one file per command; nothing heavy is imported before a command runs."""

from neuronym.cli.app import main

__all__ = ["main"]
