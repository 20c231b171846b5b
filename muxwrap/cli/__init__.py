"""The command line, ``muxwrap COMMAND``: one command a file, which imports what it needs when it runs."""

from muxwrap.cli.app import main as main
