"""What may befall a run: a second run in its folder, files that lie, a death at any moment; what must not differ."""

import errno
import io
import json
import os
import pickle
import resource
import signal
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import checkpoints
import numpy as np
import pytest
import torch
from paper_run import SETTINGS, build_model, build_prior, read_config
from safetensors import safe_open

import latent_figures
import vae_lowlevel
import vae_numpy
import vae_paper
from conv_vae import ConvVAE
from test_resume import MODELS
from vae_common import cli, digits, files
from vae_common.data import DatasetError, ImageSet, load_dataset
from vae_common.files import FolderLock
from vae_common.spec import VAESpec
from vae_common.weights import save_weights

posix = pytest.mark.skipif(os.name == "nt", reason="folders are locked with fcntl, which Windows does not have")
HOLD = """
import sys, time
from vae_common.files import FolderLock
lock = FolderLock(sys.argv[1])
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that writes to tmp_path / "run" until it is killed."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"level": "paper", "numpy": "2"}')
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "run"], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def begin(folder: Path, overwrite: bool = True) -> int:
    parser = cli.parser("test", "--out", "--overwrite")
    argv = ["--out", str(folder), *(["--overwrite"] if overwrite else [])]
    return cli.run(parser, lambda args: cli.make_run_folder(args, "paper") and None, argv)


@posix
def test_a_second_run_in_the_same_folder_is_refused_and_harms_nothing(holder, tmp_path, capsys):
    assert begin(tmp_path / "run") == 2
    assert "another run is writing to this folder" in capsys.readouterr().err
    assert (tmp_path / "run" / "config.json").read_text() == '{"level": "paper", "numpy": "2"}'


@posix
def test_the_default_folder_is_not_moved_away_from_under_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "paper"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    lock = FolderLock(folder)
    assert cli.run(cli.parser("test", "--out"), lambda args: cli.make_run_folder(args, "paper") and None, []) == 2
    assert "another run is writing to this folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["paper"]
    lock.release()
    assert cli.run(cli.parser("test", "--out"), lambda args: cli.make_run_folder(args, "paper") and None, []) == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["paper", "paper-1"]


@posix
def test_a_process_that_was_killed_holds_no_folder(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert begin(tmp_path / "run") == 0


@posix
def test_a_command_that_ended_holds_no_folder(tmp_path):
    assert begin(tmp_path / "run") == 0
    FolderLock(tmp_path / "run").release()
    assert begin(tmp_path / "run", overwrite=False) == 2
    FolderLock(tmp_path / "run").release()


# --- what a killed process leaves behind --------------------------------------------------------------------------

# It writes half a file and is killed there, or waits; with "checkpoint" it does so in the copy of the one before.
HALF = """
import os, signal, sys, time
from pathlib import Path
from vae_common.files import write_atomically
def half(file):
    file.write(b"half")
    file.flush()
    print("half", flush=True)
    os.kill(os.getpid(), signal.SIGKILL) if sys.argv[2] == "die" else sys.stdin.read()
write_atomically(Path(sys.argv[1]), half)
"""


def write_half(path: Path, what: str) -> subprocess.Popen:
    argv = [sys.executable, "-c", HALF, str(path), what]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"half\n"
    if what == "die":
        assert process.wait() == -signal.SIGKILL
    return process


def temporaries(folder: Path) -> list[Path]:
    return sorted(folder.rglob(".*.tmp"))


@posix
def test_what_a_killed_process_left_is_removed_by_the_next_run_and_what_a_living_one_writes_is_not(tmp_path):
    run = tmp_path / "run"
    for path in (run / "checkpoint.pt", run / "figures" / "a\npicture.png"):
        write_half(path, "die").communicate()
    (run / ".notes.tmp").write_text("somebody else's")
    assert len(temporaries(run)) == 3
    living = write_half(run / "evaluation.json", "wait")  # `evaluate` locks no folder
    assert begin(run) == 0
    files.write_atomically(run / "figures" / "another.png", lambda file: None)
    assert [path.name.split(".")[1] for path in temporaries(run)] == ["evaluation", "notes"]
    living.communicate()
    assert living.returncode == 0 and (run / "evaluation.json").read_bytes() == b"half"
    assert [path.name for path in temporaries(run)] == [".notes.tmp"]


@posix
def test_a_folder_that_holds_only_what_a_killed_process_left_is_empty(tmp_path):
    write_half(tmp_path / "run" / "config.json", "die").communicate()
    assert begin(tmp_path / "run", overwrite=False) == 0


@posix
def test_a_leftover_of_the_same_process_number_is_removed_too(tmp_path):
    """Numbers of processes come again, and each container has a process 1: the name says nothing, the lock does."""
    leftover = files.temporary_name(tmp_path / "a")
    leftover.write_bytes(b"half")
    files.write_atomically(tmp_path / "b", lambda file: file.write(b"whole"))
    assert not leftover.exists()
    files.write_atomically(tmp_path / "a", lambda file: (file.write(b"1"), files.remove_leftovers(tmp_path)))
    assert (tmp_path / "a").read_bytes() == b"1"


@posix
def test_a_file_taken_for_a_leftover_before_it_was_locked_is_begun_again(tmp_path, monkeypatch):
    lock, taken = files.fcntl.flock, []

    def flock(handle, how):
        if not taken:  # another process is quicker, once
            taken.extend(temporaries(tmp_path))
            taken[0].unlink()
        lock(handle, how)

    monkeypatch.setattr(files.fcntl, "flock", flock)
    files.write_atomically(tmp_path / "a", lambda file: (file.write(b"whole"), files.remove_leftovers(tmp_path)))
    assert taken and (tmp_path / "a").read_bytes() == b"whole" and not temporaries(tmp_path)


@pytest.mark.parametrize("missing", ["fcntl", "locks"])
def test_files_are_written_where_nothing_can_be_locked(missing, tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    if missing == "fcntl":
        monkeypatch.setattr(files, "fcntl", None)
    elif files.fcntl is not None:
        monkeypatch.setattr(files.fcntl, "flock", refuse)
    other = files.temporary_name(tmp_path / "a")
    other.write_bytes(b"may be of a living process")
    files.write_atomically(tmp_path / "a", lambda file: file.write(b"whole"))
    assert (tmp_path / "a").read_bytes() == b"whole" and temporaries(tmp_path) == [other]


@posix
def test_a_link_to_a_checkpoint_that_is_taken_for_a_leftover_becomes_a_copy(tmp_path, monkeypatch):
    """Between link and rename another process (`evaluate` writes without the folder's lock) may remove the link."""
    (tmp_path / "checkpoint.pt").write_bytes(b"whole")
    link = os.link
    monkeypatch.setattr(os, "link", lambda *args: (link(*args), files.remove_leftovers(tmp_path)))
    checkpoints._copy(tmp_path / "checkpoint.pt", tmp_path / "previous.pt")
    assert (tmp_path / "previous.pt").read_bytes() == b"whole" and not temporaries(tmp_path)


# --- files that promise more than they hold -----------------------------------------------------------------------

IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def write_idx(folder: Path, images: bytes | None = None, labels: bytes | None = None) -> None:
    """The four files of MNIST with seven images in each split, or other bytes in their place."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (7, 28, 28), dtype=np.uint8)
    for name in IDX:
        whole = struct.pack(">4BI", 0, 0, 8, 1, 7) + bytes(range(7))
        if "images" in name:
            whole = struct.pack(">4B3I", 0, 0, 8, 3, 7, 28, 28) + pixels.tobytes()
        given = images if "images" in name else labels
        (raw / name).write_bytes(whole if given is None else given)


def test_whole_files_are_read(tmp_path):
    write_idx(tmp_path)
    data = load_dataset("mnist", "test", tmp_path)
    assert data.images.shape == (7, 1, 28, 28) and data.labels.tolist() == list(range(7))


@pytest.mark.parametrize(
    "images",
    [
        struct.pack(">4B3I", 0, 0, 8, 3, 2**31, 28, 28) + bytes(784),
        struct.pack(">4B3I", 0, 0, 8, 3, 7, 28, 28) + bytes(6 * 784),
        struct.pack(">4B3I", 0, 0, 8, 3, 7, 28, 28) + bytes(8 * 784),
        struct.pack(">4B3I", 0, 0, 14, 3, 7, 28, 28) + bytes(7 * 784),
        struct.pack(">4B2I", 0, 0, 8, 3, 7, 28),
        b"\x00\x00",
        b"",
    ],
    ids=["2^31 images", "one image short", "one image over", "float64", "half a header", "two bytes", "nothing"],
)
def test_a_header_that_does_not_fit_the_file_is_refused_before_memory_is_taken(images, tmp_path):
    write_idx(tmp_path, images)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DatasetError, match=r"t10k-images-idx3-ubyte|train-images-idx3-ubyte"):
        load_dataset("mnist", "test", tmp_path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 300 * 1024  # KiB; importing torchvision takes most of it, 2^31 images would take 1,643 GiB


# --- no code from files -------------------------------------------------------------------------------------------

FLAGS = ["--epochs", "1", "--trunk", "mlp", "--latent-dim", "2"]


@pytest.fixture
def finished(small_digits, monkeypatch, tmp_path):
    monkeypatch.setattr("latent_figures.draw_run", lambda *args: None)
    assert vae_paper.main([*FLAGS, "--out", str(tmp_path / "run")]) == 0
    return tmp_path / "run"


class Bomb:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def explosives(bomb: Bomb) -> dict[str, bytes]:
    """A pickle that makes a file when it is loaded, in each dress."""
    object_array, archive, torch_archive = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(object_array, np.array([bomb], dtype=object), allow_pickle=True)
    np.savez(archive, planes=np.array([bomb], dtype=object), factors=np.array([bomb], dtype=object), images=np.zeros(1))
    torch.save({"model": bomb}, torch_archive)
    return dict(
        pickle=pickle.dumps(bomb), npy=object_array.getvalue(), npz=archive.getvalue(), pt=torch_archive.getvalue()
    )


def test_the_explosive_works(tmp_path):
    for name, content in explosives(Bomb(tmp_path / "exploded")).items():
        if name == "pickle":
            pickle.loads(content).close()
        elif name == "pt":
            torch.load(io.BytesIO(content), weights_only=False)["model"].close()
        else:
            loaded = np.load(io.BytesIO(content), allow_pickle=True)
            (loaded if name == "npy" else loaded["planes"])[0].close()
        (tmp_path / "exploded").unlink()  # raises unless it did


@pytest.mark.parametrize("dress", ["pickle", "npy", "npz", "pt"])
def test_no_file_of_a_run_is_executed(dress, finished, tmp_path, capsys):
    content = explosives(Bomb(tmp_path / "exploded"))[dress]
    for name, read in reads_of(finished).items():
        whole = (finished / name).read_bytes()
        (finished / name).write_bytes(content)
        capsys.readouterr()
        assert read() == 2, name
        said = capsys.readouterr().err
        assert name in said and len(said.splitlines()) == 1
        (finished / name).write_bytes(whole)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("dress", ["pickle", "npy", "npz", "pt"])
def test_no_cached_data_is_executed(dress, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(digits.SPLIT_SIZES, "test", 3)
    drawn = load_dataset("digits", "test", tmp_path).images
    cached = next(tmp_path.glob("digits-*.npz"))
    cached.write_bytes(explosives(Bomb(tmp_path / "exploded"))[dress])
    np.testing.assert_array_equal(load_dataset("digits", "test", tmp_path).images, drawn)
    assert "is damaged; drawing the digits again" in capsys.readouterr().err
    assert not (tmp_path / "exploded").exists()


# --- files that unpack to more than memory holds ------------------------------------------------------------------

TRACED = 32 * 2**20  # bytes that reading one file below may take at its peak, as tracemalloc counts; each promises more
PROMISED = 300 * 2**20


def zipped(name: str, header: dict, how: int = zipfile.ZIP_DEFLATED, zeros: int = PROMISED) -> bytes:
    """An archive of one array with this header, and zeros for what it holds: a thousandth of their size."""
    whole, start = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(start, header)
    with zipfile.ZipFile(whole, "w", how, compresslevel=1) as archive, archive.open(f"{name}.npy", "w") as part:
        part.write(start.getvalue())
        for _ in range(0, zeros, 2**20):
            part.write(bytes(2**20))
    return whole.getvalue()


def header(*shape: int, descr: str = "|u1") -> dict:
    return {"descr": descr, "fortran_order": False, "shape": shape}


def torch_bomb(value: object) -> bytes:
    whole = io.BytesIO()
    torch.save({"model": value}, whole)
    return whole.getvalue()


class Bytes:
    """As a pickle, a call that weights_only allows: bytearray(300 MiB)."""

    def __reduce__(self):
        return bytearray, (PROMISED,)


PLANES = PROMISED // (225 * 784)
BOMBS = {
    "snapshots.npz": {
        "zeros": lambda: zipped("planes", header(PLANES, 225, 1, 28, 28)),
        "zeros by bzip2": lambda: zipped("planes", header(2, 225, 1, 28, 28), zipfile.ZIP_BZIP2, 2 * TRACED),
        "a promise": lambda: zipped("planes", header(2**31, 225, 1, 28, 28), zipfile.ZIP_STORED, 0),
        "wide numbers": lambda: zipped("planes", header(2, 225, 1, 28, 28, descr="|V9999"), zeros=0),
    },
    "checkpoint.pt": {
        "a call": lambda: torch_bomb(Bytes()),
        "zeros": lambda: zipped("archive/data.pkl", header(PROMISED)),
    },
}


def traced(read: Callable[[], object], bound: int = TRACED):
    tracemalloc.start()
    try:
        status = read()
        assert tracemalloc.get_traced_memory()[1] < bound
    finally:
        tracemalloc.stop()
    return status


def reads_of(run: Path) -> dict[str, Callable[[], int]]:
    return {
        "checkpoint.pt": lambda: vae_paper.main(["--resume", str(run)]),
        "weights.safetensors": lambda: latent_figures.main([str(run)]),
        "snapshots.npz": lambda: latent_figures.main([str(run), "--animate"]),
        "metrics.jsonl": lambda: latent_figures.main([str(run)]),
        "config.json": lambda: vae_paper.main(["--resume", str(run)]),
    }


def assert_refused(read: Callable[[], int], name: str, capsys) -> None:
    capsys.readouterr()
    assert traced(read) == 2, name
    said = capsys.readouterr().err
    assert name in said and len(said.splitlines()) == 1


@pytest.mark.parametrize(("name", "what"), [(name, what) for name in BOMBS for what in BOMBS[name]])
def test_what_unpacks_to_more_than_a_run_has_is_refused_before_it_is(name, what, finished, capsys):
    (finished / name).write_bytes(BOMBS[name][what]())
    for previous in finished.glob("*previous*"):
        previous.unlink()
    assert_refused(reads_of(finished)[name], name, capsys)


def test_a_checkpoint_whose_optimizer_unfolds_is_refused(finished, capsys):
    """A tensor of 2 bytes, shown 5e8 times, that Adam would copy as float32."""
    saved = torch.load(finished / "checkpoint.pt", weights_only=True)
    for wrong in ("more", "exp_avg"):
        moments = dict(saved["optimizer"]["state"][0])
        moments[wrong] = torch.zeros(1, dtype=torch.half).expand(5 * 10**8)
        changed = {**saved, "optimizer": {**saved["optimizer"], "state": {0: moments}}}
        torch.save(changed, finished / "checkpoint.pt")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert_refused(reads_of(finished)["checkpoint.pt"], "checkpoint.pt", capsys)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 1024  # KiB; copied it is 1,953,125


def test_a_checkpoint_whose_rows_unfold_is_refused(finished, capsys):
    """Each list holds the one before it ten times: 300 bytes that are 10^9 numbers as JSON."""
    saved, laugh = torch.load(finished / "checkpoint.pt", weights_only=True), 1.0
    for _ in range(9):
        laugh = [laugh] * 10
    torch.save({**saved, "rows": [{"epoch": 1, "recon": laugh}]}, finished / "checkpoint.pt")
    assert_refused(reads_of(finished)["checkpoint.pt"], "checkpoint.pt", capsys)


@pytest.mark.parametrize("what", ["zeros", "a promise", "two arrays in one place"])
def test_cached_data_that_unpacks_to_more_is_drawn_again(what, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(digits.SPLIT_SIZES, "test", 3)
    drawn = load_dataset("digits", "test", tmp_path).images
    cached = next(tmp_path.glob("digits-*.npz"))
    if what == "zeros":
        cached.write_bytes(zipped("factors", header(PROMISED)))
    elif what == "a promise":
        cached.write_bytes(zipped("factors", header(2**40, 2**20, descr="<f8"), zipfile.ZIP_STORED, 0))
    else:
        whole = cached.read_bytes()
        start = whole.index(b"PK\x01\x02")  # the list of what the archive holds, here twice
        listed, end = whole[start : whole.rindex(b"PK\x05\x06")], bytearray(whole[whole.rindex(b"PK\x05\x06") :])
        struct.pack_into("<HHI", end, 8, 4, 4, 2 * len(listed))
        cached.write_bytes(whole[:start] + 2 * listed + end)
    capsys.readouterr()
    found = traced(lambda: load_dataset("digits", "test", tmp_path))
    np.testing.assert_array_equal(found.images, drawn)
    assert "is damaged; drawing the digits again" in capsys.readouterr().err


@posix
@pytest.mark.parametrize("what", ["sparse", "pipe", "device", "folder"])
def test_what_is_no_file_of_a_run_is_refused_at_once(what, finished, capsys):
    """16 GiB of nothing take no room on the disk; a pipe never answers, /dev/zero never ends."""
    for previous in finished.glob("*previous*"):
        previous.unlink()
    for name, read in reads_of(finished).items():
        whole = (finished / name).read_bytes()
        (finished / name).unlink()
        make = {
            "sparse": lambda path: (path.touch(), os.truncate(path, 2**34)),
            "pipe": os.mkfifo,
            "device": lambda path: path.symlink_to("/dev/zero"),
            "folder": Path.mkdir,
        }
        make[what](finished / name)
        assert_refused(read, name, capsys)
        (finished / name).rmdir() if what == "folder" else (finished / name).unlink()
        (finished / name).write_bytes(whole)


def test_images_that_are_as_many_as_their_header_says_but_too_many_are_refused(tmp_path):
    write_idx(tmp_path)
    path = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    path.write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 2**24, 28, 28))
    os.truncate(path, 16 + 2**24 * 784)  # sparse: 12 GiB
    with pytest.raises(DatasetError, match=r"13,153,337,360 bytes, where 1,073,741,824 are the most"):
        traced(lambda: load_dataset("mnist", "test", tmp_path), 200 * 2**20)  # torchvision may be imported here


def test_the_size_that_is_read_has_room_for_what_is_written():
    """Four times the weights, and two moments of each, of the prior over the largest codebook."""
    args = vae_paper.build_parser().parse_args(["--model", "vqvae", "--codes", "65536", "--codebook", "gradient"])
    vae_paper.fill_in(args)
    model = build_prior(args, build_model(args))
    assert 4 * 3 * sum(4 * value.numel() for value in model.state_dict().values()) < files.MOST


# --- settings of another version ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 2}, "a newer version of this project wrote it"),
        ({"format": "1"}, "a newer version of this project wrote it"),
        ({"likelihood": None}, "likelihood is 'None'"),
        ({"latent_dim": "2"}, "latent_dim is '2'"),
        ({"codes": 2**31}, "codes is '2147483648'"),
        ({"beta": float("nan")}, "beta is 'nan'"),
        ({"level": "lowlevel"}, "it is a run of level 'lowlevel'"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(change, reason, finished, capsys):
    config = json.loads((finished / "config.json").read_text())
    assert config["format"] == 1 and config["torch"] == torch.__version__
    assert config["threads"] == torch.get_num_threads()
    (finished / "config.json").write_text(json.dumps(config | change))
    capsys.readouterr()
    assert vae_paper.main(["--resume", str(finished)]) == 2
    said = capsys.readouterr().err
    assert reason in said and len(said.splitlines()) == 1


def test_each_setting_is_needed(finished, capsys):
    config = json.loads((finished / "config.json").read_text())
    for name in SETTINGS:
        (finished / "config.json").write_text(json.dumps({key: config[key] for key in config if key != name}))
        with pytest.raises(cli.UsageError, match=f"it lacks {name}"):
            read_config(finished)


# --- the same bytes -----------------------------------------------------------------------------------------------


def test_the_same_arrays_make_the_same_file(tmp_path):
    """The library writes metadata in an order of chance: of three names, six orders."""
    params = VAESpec(2).init_params(0)
    files = {save_weights(params, tmp_path / "weights").read_bytes() for _ in range(20)}
    assert len(files) == 1
    with safe_open(tmp_path / "weights", framework="numpy") as file:
        assert file.metadata() == {"format": "conv-vae", "latent_dim": "2", "version": "1"}
        for name, value in params.items():
            np.testing.assert_array_equal(file.get_tensor(name), value)


# vae_paper.main in a process of its own, on 150 images; KILL seconds after its first step it kills itself.
COMMAND = """
import os, signal, sys, threading
import latent_figures, trainer, vae_common.data, vae_paper
load, kill = vae_common.data.load_dataset, float(sys.argv[1])
def few(name, split, data_dir=None):
    whole, part = load(name, "test", data_dir), {"train": slice(0, 150), "test": slice(150, 200)}[split]
    return vae_common.data.ImageSet(name, split, whole.images[part], whole.labels[part], whole.class_names)
def first(*args):
    trainer.train_step = original
    if kill:
        threading.Timer(kill, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return original(*args)
vae_common.data.load_dataset, original, trainer.train_step = few, trainer.train_step, first
if kill or "--resume" in sys.argv:
    latent_figures.draw_run = lambda *args: None
status = vae_paper.main(sys.argv[2:])
os._exit(status)
"""


def command(kill: float, *argv: object) -> subprocess.CompletedProcess:
    done = [sys.executable, "-c", COMMAND, str(kill), *map(str, argv)]
    return subprocess.run(done, capture_output=True, text=True, timeout=300)


def content(path: Path) -> object:
    """What must be equal: all of it, but for the seconds that were measured and the place of the run."""
    if path.suffix in (".json", ".jsonl"):
        text = path.read_text()
        rows = [json.loads(text)] if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
        return [{key: row[key] for key in row if key not in ("seconds", "out", "resume")} for row in rows]
    return path.read_bytes()


def assert_same_files(found: Path, expected: Path, but: tuple[str, ...] = ()) -> None:
    names = [{str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()} for run in (found, expected)]
    assert names[0] == names[1]
    for name in names[0]:
        if "checkpoint" not in name and name not in but:  # it holds the seconds of each epoch
            assert content(found / name) == content(expected / name), name


# As in the tests of resuming, but one of Z = 2, whose run keeps snapshots of the decoded plane as well.
KILLED = {name: flags for name, flags in MODELS.items() if name != "capacity"} | {"vae": ["--latent-dim", "2"]}


@pytest.mark.slow
@pytest.mark.parametrize("model", KILLED)
def test_two_launches_write_the_same_bytes(model, tmp_path):
    for run in ("one", "two"):
        done = command(0, *KILLED[model], "--epochs", "2", "--binarize", "dynamic", "--out", tmp_path / run)
        assert done.returncode == 0, done.stderr
    assert_same_files(tmp_path / "one", tmp_path / "two")


def kill_and_resume(model: str, times: int, tmp_path: Path) -> int:
    """Kill a run `times` times at random moments, each time after it was resumed; how many of the kills hit."""
    flags, hits = [*KILLED[model], "--epochs", "40", "--batch-size", "32", "--binarize", "dynamic"], 0
    rng = np.random.default_rng(list(KILLED).index(model))
    for number in range(times):
        begin = flags if number == 0 else ["--resume", tmp_path / "run"]
        done = command(rng.uniform(0.01, 0.8), *begin, *(["--out", tmp_path / "run"] if number == 0 else []))
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        hits += done.returncode == -signal.SIGKILL
        assert not any(line for line in done.stderr.splitlines() if "damaged" in line or "Traceback" in line)
    assert vae_paper.main(["--resume", str(tmp_path / "run")]) == 0
    assert vae_paper.main([*flags, "--out", str(tmp_path / "whole")]) == 0
    assert_same_files(tmp_path / "run", tmp_path / "whole")
    return hits


@pytest.fixture
def without_pictures(small_digits, monkeypatch):
    monkeypatch.setattr("latent_figures.draw_run", lambda *args: None)


@posix
def test_killed_at_random_moments_and_resumed(without_pictures, tmp_path):
    assert kill_and_resume("mlp", 3, tmp_path) >= 1


@posix
@pytest.mark.slow
@pytest.mark.parametrize("model", KILLED)
def test_each_model_killed_at_random_moments(model, without_pictures, tmp_path, capsys):
    hits = kill_and_resume(model, 5, tmp_path)
    with capsys.disabled():
        print(f"\n{model}: killed {hits} times, the same bytes in the end")


# --- places -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ein Lauf", "Größe-学習", "-dash", "a\nline"])
def test_any_name_of_a_folder_will_do(name, small_digits, monkeypatch, tmp_path):
    monkeypatch.setattr("latent_figures.draw_run", lambda *args: None)
    assert vae_paper.main([*FLAGS, f"--out={tmp_path / name}"]) == 0
    assert vae_paper.main([f"--resume={tmp_path / name}"]) == 0


@posix
def test_a_folder_behind_a_link_is_locked_and_written(small_digits, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("latent_figures.draw_run", lambda *args: None)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert vae_paper.main([*FLAGS, "--out", str(tmp_path / "link")]) == 0
    assert (tmp_path / "real" / "weights.safetensors").is_file() and (tmp_path / "link").is_symlink()
    lock = FolderLock(tmp_path / "real")
    assert vae_paper.main(["--resume", str(tmp_path / "link")]) == 2
    assert "another run is writing to this folder" in capsys.readouterr().err
    lock.release()


DRAW = """
import sys
from vae_common import data, digits
digits.SPLIT_SIZES["test"] = 300
print(int(data.load_dataset("digits", "test", sys.argv[1]).images.sum(dtype=int)))
"""


def test_several_processes_draw_into_one_cache(tmp_path):
    argv = [sys.executable, "-c", DRAW, str(tmp_path)]
    started = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    ended = [process.communicate(timeout=120) for process in started]
    assert all(process.returncode == 0 for process in started) and len(set(ended)) == 1 and ended[0][1] == ""
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]


# --- numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("flags", [[], ["--model", "vqvae", "--codes", "4"], ["--model", "ae"], ["--capacity", "5"]])
def test_images_without_content_give_finite_numbers(value, flags, without_pictures, monkeypatch, tmp_path):
    def load(name, split, data_dir=None):
        images = np.full((40, 1, 28, 28), value, np.uint8)
        return ImageSet("digits", split, images, np.arange(40) % 10, tuple("0123456789"))

    monkeypatch.setattr("vae_common.data.load_dataset", load)
    assert vae_paper.main([*flags, "--epochs", "2", "--batch-size", "4", "--out", str(tmp_path / "run")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(one) for row in rows for one in row.values() if isinstance(one, float))
    assert 0 <= rows[-1]["recon"] < 784 * np.log(2)  # better than grey


@pytest.mark.parametrize("flags", [[], ["--model", "vqvae", "--codes", "4"], ["--importance-samples", "2"]])
def test_a_huge_lr_ends_in_numbers_or_in_a_sentence(flags, without_pictures, tmp_path, capsys):
    status = vae_paper.main([*flags, "--lr", "1000", "--epochs", "3", "--batch-size", "16", "--out", str(tmp_path)])
    said = capsys.readouterr()
    assert "nan" not in said.out
    assert status == 0 or (status == 2 and len(said.err.splitlines()) == 1 and "try a smaller --lr" in said.err)


def test_a_weight_that_is_not_finite_is_named_by_the_first_term(finished, monkeypatch, tmp_path, capsys):
    """A checkpoint that holds NaN: the file is whole, so the run goes on to the first term that is not finite."""
    saved = torch.load(finished / "checkpoint.pt", weights_only=True)
    next(value for name, value in saved["model"].items() if name.startswith("encoder"))[0] = float("nan")
    saved["step"], saved["rows"] = 0, []
    torch.save(saved, finished / "checkpoint.pt")
    capsys.readouterr()
    assert vae_paper.main(["--resume", str(finished)]) == 2
    said = capsys.readouterr().err
    assert "recon became nan at step 0" in said and len(said.splitlines()) == 1


@pytest.mark.parametrize("logit", [-1e4, 1e4])
@pytest.mark.parametrize("logvar", [-50.0, 50.0])
def test_extreme_terms_are_their_closed_forms_at_every_level(logit, logvar):
    """-log p of a pixel is |l| where the logit is on the wrong side, to 1e-4342 nats, and 0 on the right one."""
    x, mu = np.zeros((1, 1, 28, 28)), np.zeros((1, 3))
    arrays = [x, np.full_like(x, logit), mu, np.full_like(mu, logvar)]
    tensors = [torch.from_numpy(array) for array in arrays]
    recon, kl = 784 * max(logit, 0), 1.5 * (np.exp(logvar) - 1 - logvar)
    model = ConvVAE(VAESpec(3))
    for terms in (vae_numpy.elbo_terms(*arrays), vae_lowlevel.elbo_terms(*tensors), model.elbo_terms(*tensors)):
        assert [float(term[0]) for term in terms] == pytest.approx([recon, kl], rel=1e-12)
