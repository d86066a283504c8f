"""``python -m umbel``: the same as the ``umbel`` command."""

from umbel.cli import main

main()
