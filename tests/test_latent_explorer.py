"""The explorer page: its JavaScript against level 1, number by number, and what the file may hold. No browser here."""

import base64
import hashlib
import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import latent_explorer
import vae_numpy
from run_folders import finished_run
from vae_commands import explore_run
from vae_common import latent_paths
from vae_common.config import RunConfig
from vae_common.data import ImageSet, binarize
from vae_common.errors import DatasetError
from vae_common.randomness import generator
from vae_common.spec import VAESpec
from vae_common.weights import PRETRAINED, load_weights
from vae_common.weights_shown import layer_by_layer
from vae_explorer import builder
from vae_training.run_files import read_run

ROOT = Path(__file__).resolve().parents[1]
EXPLORER = ROOT / "paper" / "vae_explorer"
SCRIPT = builder.script()
TEMPLATE = (EXPLORER / "template.html").read_text(encoding="utf-8")
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed: the page's JavaScript cannot run here")


class Page(html.parser.HTMLParser):
    """The elements and attributes that a browser would find, and the data."""

    def __init__(self, text: str):
        super().__init__()
        self.elements, self.text, self.bytes = [], text, len(text.encode())
        self.json = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1]
        self.data = json.loads(self.json)
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def images(self) -> np.ndarray:
        """The embedded images, uint8 (N, 1, 28, 28), by the definition of the packing, byte by byte."""
        return np.array(unpack(base64.b64decode(self.data["images"])), np.uint8).reshape(-1, 1, 28, 28)


def unpack(packed: bytes) -> list[int]:
    pixels, rest = [], iter(packed)
    for byte in rest:
        pixels += [byte] if byte else [0] * next(rest)
    return pixels


def write_page(*argv: str | Path, folder: Path | None = None) -> Page:
    """The page that the command writes, into the run folder or into `folder`."""
    assert latent_explorer.main(list(map(str, argv))) == 0
    return Page(((folder or Path(argv[0])) / "explorer.html").read_text(encoding="utf-8"))


@pytest.fixture
def page_of(small_digits, tmp_path):
    """Write the page of a new run with those settings, on `data` or on 50 digits, and read it."""

    def build(data: ImageSet | None = None, folder: str = "run", **settings) -> Page:
        with pytest.MonkeyPatch.context() as patch:
            if data is not None:
                patch.setattr(RunConfig, "load", lambda *args: data)
            return write_page(finished_run(tmp_path / folder, **settings))

    return build


def first(count: int, digits: ImageSet, labels: bool = True) -> ImageSet:
    """The first so many digits."""
    names = digits.class_names if labels else ()
    return ImageSet("digits", "test", digits.images[:count], digits.labels[:count] if labels else None, names)


def layers_of_level_1(params, x: np.ndarray, eps: np.ndarray) -> list:
    """Each layer of the spec with its output, as level 1 computes it."""
    primitives = {"conv": vae_numpy.conv2d, "deconv": vae_numpy.conv_transpose2d, "linear": vae_numpy.linear}
    return list(layer_by_layer(params, primitives, vae_numpy.reparameterize, x, eps))


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> Page:
    """The page of the shipped weights with Z = 20, on the whole test split."""
    folder = tmp_path_factory.mktemp("shipped")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return write_page("--pretrained", "--latent-dim", 20, folder=folder / "runs/pretrained-z20")


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """Call node(body, **given): the JavaScript `body`, which sees the model as `e` and JSON as `given`, its result."""
    folder = tmp_path_factory.mktemp("node")
    (folder / "explorer.js").write_text(SCRIPT, encoding="utf-8")

    def call(body: str, **given):
        (folder / "given.json").write_text(json.dumps(given))
        (folder / "call.js").write_text(
            "const e = require('./explorer.js');\n"
            "const given = JSON.parse(require('fs').readFileSync(__dirname + '/given.json', 'utf8'));\n"
            "const full = (array) => Array.from(array, (v) => (Number.isFinite(v) ? v : String(v)));\n"
            f"const result = (() => {{{body}}})();\n"
            "process.stdout.write(JSON.stringify(result));\n"
        )
        done = subprocess.run([NODE, str(folder / "call.js")], capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return call


OF_PAGE = """
  const run = given.page, params = e.read_params(run.tensors, run.weights);
  const images = e.read_images(run.images, run.image_count).slice(0, 20);
  const Z = run.latent_dim;
"""
LOGITS = 1e-4  # the page's promise; float32 sums of up to 3,136 terms of logits near 30 differ by about 2e-5


@needs_node
def test_the_forward_pass_agrees_with_level_1_on_20_test_images(shipped, node, digits):
    eps = np.random.default_rng(0).standard_normal((20, 20), dtype=np.float32)
    found = node(
        OF_PAGE + """return images.map((pixels, n) => {
          const x = e.image_of(pixels, false), eps = e.array([Z], given.eps[n]);
          const [x_logits, mu, logvar] = e.forward(params, x, eps);
          const [recon, kl] = e.elbo_terms(x, x_logits, mu, logvar);
          const squared = e.elbo_terms(x, x_logits, mu, logvar, "gaussian")[0];
          return [x_logits, mu, logvar, [recon, kl, squared]].map((array) => Array.from(array));
        });""",
        page=shipped.data, eps=eps.tolist(),
    )  # fmt: skip
    x_logits, mu, logvar, terms = (np.array(part) for part in zip(*found, strict=True))
    x = binarize(digits.images[:20], "none")
    expected = vae_numpy.forward(load_weights("digits-z20"), x, eps)
    np.testing.assert_allclose(x_logits.reshape(20, 1, 28, 28), expected[0], rtol=0, atol=LOGITS)
    np.testing.assert_allclose(mu, expected[1], rtol=0, atol=2e-5)  # sums of 3,136 float32 terms of size 1
    np.testing.assert_allclose(logvar, expected[2], rtol=0, atol=2e-5)
    recon, kl = vae_numpy.elbo_terms(x, *expected)
    np.testing.assert_allclose(terms[:, 0], recon, rtol=2e-5)  # each pixel's logit to 2e-5, in level 1's float32
    np.testing.assert_allclose(terms[:, 1], kl, rtol=2e-5)
    np.testing.assert_allclose(terms[:, 2], vae_numpy.gaussian_recon(x, expected[0]), rtol=2e-5)


@needs_node
def test_layer_by_layer_agrees_with_level_1_and_with_forward(shipped, node, digits):
    params, eps = load_weights("digits-z20"), np.random.default_rng(1).standard_normal((1, 20), dtype=np.float32)
    rows, z, same = node(
        OF_PAGE + """
        const x = e.image_of(images[0], false), eps = e.array([Z], given.eps);
        const { outputs, z, x_logits } = e.layer_by_layer(params, x, eps);
        const whole = e.forward(params, x, eps)[0];
        const rows = outputs.map(({ name, kind, h, relu }) => [name, kind, relu, h.shape, Array.from(h)]);
        return [rows, Array.from(z), whole.every((value, k) => value === x_logits[k])];""",
        page=shipped.data, eps=eps[0].tolist(),
    )  # fmt: skip
    assert same
    x = binarize(digits.images[:1], "none")
    layers = layers_of_level_1(params, x, eps)
    for (name, kind, relu, shape, h), (layer, expected) in zip(rows, layers, strict=True):
        assert (name, kind, relu, tuple(shape)) == (layer.name, layer.kind, layer.relu, layer.output)
        np.testing.assert_allclose(np.reshape(h, shape), expected[0], rtol=0, atol=LOGITS, err_msg=name)
    mu, logvar = vae_numpy.encode(params, x)
    np.testing.assert_allclose(z, vae_numpy.reparameterize(mu, logvar, eps)[0], atol=2e-5)


@needs_node
def test_a_conditional_model_agrees_with_level_3(page_of, node, tmp_path):
    import torch

    page = page_of(model="cvae", latent_dim=3)
    assert [page.data[name] for name in ("title", "model", "classes")] == ["Conditional VAE", "cvae", 10]
    _, model, _ = read_run(tmp_path / "run")
    builder.round_weights(model, "run")
    eps = np.random.default_rng(3).standard_normal((10, 3), dtype=np.float32)
    found = node(
        OF_PAGE + """return images.slice(0, 10).map((pixels, y) =>
          e.forward(params, e.image_of(pixels, false), e.array([Z], given.eps[y]), y).map((a) => Array.from(a)));""",
        page=page.data, eps=eps.tolist(),
    )  # fmt: skip
    x = torch.from_numpy(binarize(page.images()[:10], "none"))
    with torch.no_grad():
        expected = model(x, torch.from_numpy(eps), torch.arange(10))
    for part, wanted in zip(zip(*found, strict=True), expected, strict=True):
        np.testing.assert_allclose(np.reshape(part, wanted.shape), wanted.numpy(), rtol=0, atol=2e-5)


@needs_node
def test_every_float16_is_read_as_numpy_reads_it(node):
    bits = np.arange(65536, dtype="<u2")
    found = node("return full(e.floats_of(given.text));", text=base64.b64encode(bits.tobytes()).decode())
    expected = bits.view("<f2").astype(np.float32)
    assert [float(value) for value in found[:0x7C00]] == expected[:0x7C00].tolist()
    np.testing.assert_array_equal([float(str(value).replace("Infinity", "inf")) for value in found], expected)


@needs_node
def test_paths_agree_with_the_figures(node):
    rng = np.random.default_rng(5)
    pairs = [rng.standard_normal((2, 2)), rng.standard_normal((2, 20)), [[1, 2], [2, 4]], [[1, 0], [1, 1e-5]]]
    for ends in (np.asarray(pair, float) for pair in pairs):
        t = np.linspace(0, 1, 7)
        found = node(
            """const [z0, z1] = given.ends.map((z) => e.array([z.length], z));
            return [e.lerp, e.slerp].map((path) => given.t.map((t) => Array.from(path(z0, z1, t))));""",
            ends=ends.tolist(), t=t.tolist(),
        )  # fmt: skip
        for values, path in zip(found, (latent_paths.lerp, latent_paths.slerp), strict=True):
            np.testing.assert_allclose(values, path(*ends, t), rtol=1e-6, atol=1e-6)  # the ends as float32
    body = """const z = (...values) => e.array([2], values);
      return [e.slerp(z(1, 2), z(-1, -2), 0.5), e.slerp(z(0, 0), z(1, 1), 0.5)];"""
    assert node(body) == [None, None]  # level 1 raises ValueError: no one circle joins them


@needs_node
def test_binarized_pixels_are_cut_as_the_threshold_cuts_them(node, digits):
    pixels = np.concatenate([digits.images[0].ravel()[:528], np.arange(256, dtype=np.uint8)])
    for binary, how in ((True, "threshold"), (False, "none")):
        found = node(
            "return Array.from(e.image_of(given.pixels, given.binary));", pixels=pixels.tolist(), binary=binary
        )
        np.testing.assert_array_equal(np.float32(found), binarize(pixels, how))


@settings(max_examples=20)
@given(arrays(np.uint8, (3, 28, 28), elements=st.sampled_from([0, 0, 0, 1, 255])))
def test_packed_images_come_back(images):
    packed = b"".join(builder.pack(image) for image in images)
    assert unpack(packed) == images.ravel().tolist()


@needs_node
def test_images_and_labels_of_the_page(shipped, node, digits):
    data, count = shipped.data, shipped.data["image_count"]
    assert node("return e.read_images(given.text, given.count).map((p) => Array.from(p)).slice(0, 40);",
                text=data["images"], count=count) == digits.images[:40].reshape(40, 784).tolist()  # fmt: skip
    assert data["labels"] == digits.labels[:count].tolist() and data["class_names"] == list(digits.class_names)


def test_a_shipped_model_without_its_data_shows_what_it_draws_itself(monkeypatch, tmp_path, capsys):
    def refuse(*args):
        raise DatasetError("no data here.")

    monkeypatch.setattr("vae_common.config.load_dataset", refuse)
    monkeypatch.chdir(tmp_path)
    data = write_page("--pretrained", folder=tmp_path / "runs/pretrained-z2").data
    assert "that the model drew itself, for want of digits: no data here." in capsys.readouterr().out
    config, model, _ = explore_run.shipped_model("digits", 2)
    images = explore_run.drawn_by(model, config).images
    z = generator(0, "figures").standard_normal((1000, 2), dtype=np.float32)
    means = vae_numpy.pixels(load_weights("digits-z2"), z)
    assert np.abs(images - 255 * means).max() <= 0.5 + 1e-3  # rounded, of float32
    assert base64.b64decode(data["images"]).startswith(b"".join(map(builder.pack, images[:100])))
    assert (data["shown"], data["labels"], data["class_names"]) == ("sample", None, [])


def test_the_page_holds_the_shipped_weights_and_their_measurement(shipped, digits):
    page, expected = shipped, load_weights("digits-z20")
    assert page.data["tensors"] == [[name, list(shape)] for name, shape in VAESpec(20).shapes.items()]
    flat = np.concatenate([expected[name].ravel() for name, _ in page.data["tensors"]])
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(page.data["weights"]), "<f2"), flat)
    documented = re.search(r"`digits-z20.safetensors`.*\| ([\d.]+) \|", (PRETRAINED / "README.md").read_text())
    test, count = page.data["test"], page.data["image_count"]
    assert test["recon"] + test["kl"] == pytest.approx(float(documented[1]), abs=0.01)  # as test_weights.py
    assert test["images"] == len(digits) and count >= 300
    mu = np.frombuffer(base64.b64decode(page.data["mu"]), "<f2").reshape(count, 20)
    x = binarize(digits.images[:count], "none")
    np.testing.assert_allclose(mu, vae_numpy.encode(expected, x)[0], rtol=2**-11, atol=1e-4)  # float16 rounding
    assert sum(page.data["kl_per_dim"]) == pytest.approx(test["kl"], abs=0.01)
    assert len(page.data["active"]) == 20 and page.bytes < 5_000_000


def test_a_page_of_many_dimensions_stays_near_5_mb(digits, page_of):
    """Images full of ink take most bytes: 784 each. The largest model goes 1% over, as IMAGES says."""
    noise = np.random.default_rng(0).integers(1, 256, (600, 1, 28, 28), dtype=np.uint8)
    full = ImageSet("digits", "test", noise, digits.labels[:600], digits.class_names)
    page = page_of(full, latent_dim=256)
    assert 4_950_000 < page.bytes < 5_050_000 and len(page.images()) == page.data["image_count"] >= 12


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (dict(importance_samples=5), dict(title="IWAE, K = 5", classes=0)),
        (dict(binarize="dynamic", likelihood="gaussian"), dict(binary=True, likelihood="gaussian")),
    ],
)
def test_the_page_says_what_model_it_is_of(settings, expected, page_of):
    page = page_of(latent_dim=1, **settings)
    assert {name: page.data[name] for name in expected} == expected and page.data["latent_dim"] == 1


def collapse(model) -> None:
    """The posterior is the prior whatever the image, as after training with too large a beta."""
    for layer in (model.encoder.mu, model.encoder.logvar):
        layer.weight.data.zero_()
        layer.bias.data.zero_()
    model.decoder.fc1.weight.data.zero_()


@pytest.mark.parametrize(("model", "active"), [("vae", False), ("ae", True)])
def test_a_collapsed_model_is_marked_and_an_autoencoder_is_not(model, active, page_of):
    data = page_of(model=model, latent_dim=4, change=collapse).data
    assert data["active"] == [active] * 4 and data["title"] == ("Autoencoder" if active else "VAE")
    assert active or (data["kl_per_dim"] == [0] * 4 and data["test"]["kl"] == 0)


HOSTILE = (
    *("</script><script>window.pwned = 1</script>", "<!--<script>", "]]>", "<img src=x onerror='window.pwned = 1'>"),
    *('"; window.pwned = 1; "', "\u2028\u2029\x00", "${window.pwned = 1}", "$DATA", "a" * 5000, "ﷺ"),
)


def hostile(digits) -> ImageSet:
    return ImageSet("<b>digits</b></script>", "test", digits.images[:60], digits.labels[:60], HOSTILE)


def test_labels_with_markup_stay_data(digits, page_of):
    page = page_of(hostile(digits), latent_dim=2)
    assert page.data["class_names"] == list(HOSTILE) and page.data["dataset"] == "<b>digits</b></script>"
    assert not set(page.json) & set("<>&")
    nameless = ImageSet("digits", "test", digits.images[:40], digits.labels[:40], ())
    for name, data in {"nameless": nameless, "unlabelled": first(40, digits, labels=False)}.items():
        other = page_of(data, folder=name, latent_dim=2)
        assert page.elements == other.elements  # no name has become an element, an attribute or another hash
        assert other.data["labels"] is None and other.data["class_names"] == []


def test_the_policy_allows_this_script_and_this_style_and_nothing_else(shipped):
    page = shipped
    [style] = re.findall("<style>(.*?)</style>", page.text, re.S)
    [script] = re.findall("<script>(.*?)</script>", page.text, re.S)
    [policy] = [a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    directives = dict(part.split(maxsplit=1) for part in policy.split("; "))
    for name, source in {"script-src": script, "style-src": style}.items():
        expected = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert directives.pop(name) == f"'sha256-{expected}'"
    assert directives.pop("img-src") == "data: blob:"
    assert directives == {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'"}
    order = [tag for tag, _ in page.elements]
    assert order.index("meta") < order.index("style") and order.count("script") == 2
    assert script == SCRIPT and sorted(builder.SCRIPTS) == sorted(path.stem for path in EXPLORER.glob("*.js"))


def test_nothing_outside_the_page_is_named_and_nothing_runs_from_markup(shipped):
    for tag, attributes in shipped.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert "style" not in attributes and "src" not in attributes and tag not in ("link", "iframe", "object", "base")
        assert attributes.get("href", "#").startswith("#")
    assert not re.findall(r"https?:|//[a-z]+\.|url\(|@import|import\(", (TEMPLATE + SCRIPT).replace("// ", ""))
    forbidden = r"(inner|outer|insertAdjacent)HTML|document\.write|\beval\b|new Function|setTimeout\(['\"]|fetch\("
    assert not re.findall(forbidden, SCRIPT)
    assert not re.findall("</script|<!--|<script", SCRIPT, re.I)


@pytest.mark.parametrize(
    ("settings", "change", "reason"),
    [
        (dict(model="vqvae", prior_labels=True), None, "the spec's network only"),
        (dict(architecture="mlp"), None, "the spec's network only"),
        (dict(), lambda model: model.decoder.fc1.weight.data.fill_(1e5), "the range of float16"),
        (dict(), lambda model: model.encoder.logvar.bias.data.fill_(1000.0), "is not finite"),
        (dict(model="ae"), lambda model: model.encoder.mu.weight.data.fill_(6e4), "finite"),
    ],
    ids=["vqvae", "mlp", "beyond float16", "infinite kl", "infinite code"],
)
def test_what_cannot_be_shown_is_refused_in_one_sentence(settings, change, reason, small_digits, tmp_path, told):
    folder = finished_run(tmp_path / "run", change=change or (lambda model: None), latent_dim=2, **settings)
    assert reason in told(latent_explorer.main, [str(folder)])
    assert not (folder / "explorer.html").exists() and not list(folder.glob("*.tmp"))


def test_open_asks_the_browser_for_the_file(small_digits, tmp_path, monkeypatch, capsys):
    folder, asked = finished_run(tmp_path / "a run", latent_dim=2), []
    monkeypatch.setattr("webbrowser.open", lambda url: asked.append(url))  # None: there is no browser
    for flags in ([], ["--open"]):
        assert latent_explorer.main([str(folder), *flags]) == 0
    path = folder / "explorer.html"
    assert asked == [path.as_uri()] and str(path) in capsys.readouterr().err


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_controls_have_contrast(scheme):
    """WCAG 2 AA: 4.5 for text, 3 for what is drawn."""
    roots = re.findall(r":root \{(.*?)\}", re.search("<style>(.*?)</style>", TEMPLATE, re.S)[1], re.S)
    light, dark = (dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", part)) for part in roots)
    c = {"light": light, "dark": dark}[scheme]
    assert set(light) == set(dark)
    pairs = [(c[text], c[ground]) for text in ("ink", "muted") for ground in ("paper", "surface", "sunken")]
    pairs += [(c["accent"], c["paper"]), (c["on-accent"], c["accent"]), (c["warm"], c["warm-surface"])]
    assert min(contrast(*pair) for pair in pairs) >= 4.5
    classes = re.findall("#[0-9a-f]{6}", re.search(rf"{scheme}: \[(.*?)\]", SCRIPT)[1])
    assert len(set(classes)) == 10
    # a dot is never the only sign of a class: its name stands on the plane and in the list
    assert min(contrast(colour, c["surface"]) for colour in [*classes, c["handle"], c["accent"]]) >= 2.5


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2, from 1 to 21."""

    def luminance(colour: str) -> float:
        rgb = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_exercises_that_are_named_exist():
    named = set(re.findall(r"exercises/(\w+\.md)", SCRIPT))
    there = {path.name for path in (ROOT / "exercises").glob("*.md")}
    assert len(named) >= 9 and named <= there, named - there
