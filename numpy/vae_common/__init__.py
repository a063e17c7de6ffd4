"""What all levels share. It is imported before torch, whose threads it tells how long to spin while they wait."""

import os

# torch's threads wait for one another in a loop, by default for milliseconds, and where other programs need the cores
# each of them waits for a thread that is not running. A short spin costs nothing on an idle machine.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
