"""Levels 1 and 2 are one text: a diff of the two files shows what PyTorch changes, and nothing else."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LEVEL_1, LEVEL_2 = ROOT / "numpy" / "vae_numpy.py", ROOT / "pytorch_lowlevel" / "vae_lowlevel.py"
MOST = 15  # lines that may differ, of about 85


def the_model(path: Path) -> list[str]:
    """From the section on the encoder to the end of elbo_terms."""
    lines = path.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("# --- encoder"))
    last = next(number for number, line in enumerate(lines) if line.startswith("    return recon, gaussian_kl("))
    return lines[start : last + 1]


def sections(path: Path) -> list[str]:
    return [line[6:].split(" --")[0].split(":")[0] for line in path.read_text().splitlines() if line[:6] == "# --- "]


def test_the_models_differ_only_where_numpy_and_torch_are_called():
    one, two = the_model(LEVEL_1), the_model(LEVEL_2)
    assert 60 < len(one) == len(two)
    differing = [(a, b) for a, b in zip(one, two, strict=True) if a != b]
    shown = "\n".join(f"- {a}\n+ {b}" for a, b in differing)
    assert 0 < len(differing) <= MOST, shown
    for a, b in differing:
        assert a.replace("np.", "torch.").replace("axis=", "dim=") == b, shown


def test_the_sections_come_in_the_same_order():
    one, two = sections(LEVEL_1), sections(LEVEL_2)
    shared = ["primitives", "encoder", "reparameterization", "decoder", "loss"]
    assert [name for name in one if name in shared] == [name for name in two if name in shared] == shared


def test_what_differs_can_be_seen_in_a_diff():
    # `diff -y -W 160` shows 77 columns of a line; what differs must be among them.
    for a, b in zip(the_model(LEVEL_1), the_model(LEVEL_2), strict=True):
        same_end = next((n for n in range(len(a)) if a[-1 - n :] != b[-1 - n :]), 0)
        assert a == b or max(len(a), len(b)) - same_end <= 77, b


def test_a_line_that_strays_is_found(tmp_path, monkeypatch):
    text = LEVEL_2.read_text()
    for wrong in (text.replace("0.5 * logvar", "logvar"), text.replace("    std = ", "    sigma = ")):
        path = tmp_path / "level2.py"
        path.write_text(wrong)
        monkeypatch.setitem(globals(), "LEVEL_2", path)
        with pytest.raises(AssertionError, match="-     std = "):
            test_the_models_differ_only_where_numpy_and_torch_are_called()
