"""The learning rate that levels 2 and 3 train with: a pure function of the step, so a resumed run needs no state."""

import math


def learning_rate(step: int, total_steps: int, peak: float) -> float:
    """The rate of step 0, 1, ..., total_steps - 1: a linear warm-up over the first tenth of the steps (500 at the
    most), then half a cosine from `peak` down towards 0 (Loshchilov & Hutter 2017, eq. 5, without restarts)."""
    warm_up = min(500, math.ceil(total_steps / 10))
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (total_steps - warm_up)))
