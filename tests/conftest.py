"""What every test rests on: the real NumPy, the project installed, and data that costs no download."""

import functools
import gc
import os
import signal
from pathlib import Path

import pytest

# One thread for each test process, and for the commands that tests start: processes that each take all cores wait
# for one another. It must be set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config):
    try:
        import numpy
    except ModuleNotFoundError:
        pytest.exit("NumPy is not installed in this environment; run: python -m pip install -e '.[test]'", returncode=2)
    if not hasattr(numpy, "ndarray"):
        pytest.exit(
            f"`import numpy` found {next(iter(getattr(numpy, '__path__', '?')))} instead of NumPy: install NumPy "
            "(python -m pip install -e '.[test]') and see that the folder numpy/ holds no __init__.py.",
            returncode=2,
        )
    # A shell lets what it starts in the background ignore Ctrl-C, which tests send to themselves.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    gc.freeze()  # what has been imported stays: the garbage collector need not walk through it again and again


def pytest_unconfigure():
    gc.unfreeze()


@pytest.fixture(scope="session")
def digits():
    """The drawn digits' test split."""
    from vae_common.data import load_dataset

    return load_dataset("digits", "test")


@pytest.fixture(scope="session")
def few_drawn(digits):
    """In place of vae_common.data._load_drawn: of the digits' test split 150 images to train on and 50 to test on."""
    from vae_common.data import _load_drawn

    parts = {"train": slice(0, 150), "test": slice(150, 200)}

    def load(name, split, folder):
        if name != "digits":
            return _load_drawn(name, split, folder)
        return digits.factors[parts[split]], digits.images[parts[split]]

    return load


@pytest.fixture
def small_digits(monkeypatch, few_drawn):
    """The drawn digits are 150 images to train on and 50 to test on."""
    monkeypatch.setattr("vae_common.data._load_drawn", few_drawn)


@pytest.fixture
def without_pictures(small_digits, monkeypatch):
    """Level 3 trains on few digits and draws nothing."""
    monkeypatch.setattr("vae_commands.train_run.draw_run", lambda *args: None)


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory):
    import vae_paper

    @functools.cache
    def train(*flags: str) -> Path:
        folder = tmp_path_factory.mktemp("whole") / "run"
        assert vae_paper.main([*flags, "--out", str(folder)]) == 0
        return folder

    return train


@pytest.fixture
def trained(without_pictures, trained_once):
    """A function of flags: the folder of the run of level 3 with them that nothing stopped, not to be written to."""
    return trained_once


@pytest.fixture
def told(capsys):
    """Call told(command, argv): the one line in which the command says why it ends with status 2."""

    def call(command, argv: list[str]) -> str:
        capsys.readouterr()
        status, said = command(argv), capsys.readouterr().err
        assert status == 2 and len(said.splitlines()) == 1 and "Traceback" not in said, said
        return said

    return call


@pytest.fixture
def not_laid_out(monkeypatch):
    """Figures are made as they are, but for the layout, which takes longest; saving one would still do it."""
    for module in ("style", "charts"):
        monkeypatch.setattr(f"vae_common.plots.{module}.settle", lambda figure: figure)


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder with real MNIST that VAE_DATA_DIR names."""
    folder = os.environ.get("VAE_DATA_DIR")
    if not folder or not (Path(folder) / "MNIST" / "raw").is_dir():
        pytest.skip("real MNIST: set VAE_DATA_DIR to a folder that holds MNIST/raw")
    return Path(folder)
