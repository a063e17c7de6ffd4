"""What all levels share. Imported before torch, it sets how long threads spin, and what Ctrl-C says until then."""

import os
import sys
from pathlib import Path

# torch's threads wait for one another in a loop, by default for milliseconds, and where other programs need the cores
# each of them waits for a thread that is not running. A short spin costs nothing on an idle machine.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def interrupted_while_importing(kind, error, trace) -> None:
    """Ctrl-C before a command has begun is one line; what else ends a program is told as always. For sys.excepthook."""
    if issubclass(kind, KeyboardInterrupt):
        print("\ninterrupted; nothing had begun.", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


if Path(*sys.argv[:1]).resolve().parent.parent == Path(__file__).resolve().parents[2]:  # a command of this project
    sys.excepthook = interrupted_while_importing
