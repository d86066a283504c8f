"""The command line in this process, as a user calls it."""

import sys

from umbel.cli import main


def umbel(monkeypatch, capsys, *words):
    """Run the command line; give exit code, standard output and standard error."""
    monkeypatch.setattr(sys, "argv", ["umbel", *map(str, words)])
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    out, err = capsys.readouterr()
    return code, out, err
