"""``python -m neuronym`` is the same as ``neuronym``."""

import sys


def run() -> None:
    """Run the command line and leave with its exit status."""
    from neuronym.cli import main

    sys.exit(main())


if __name__ == "__main__":
    run()
