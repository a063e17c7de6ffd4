"""The explorer's page, and the exercises' sliders, in a real browser with the network off: Chromium by Selenium."""

import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

import latent_explorer
import vae_numpy
from run_folders import finished_run
from test_exercise_solutions import EXERCISES  # which puts exercises/ on the path
from test_latent_explorer import HOSTILE, collapse, first, hostile, layers_of_level_1
from vae_common import latent_paths
from vae_common.config import RunConfig
from vae_common.data import ImageSet, binarize
from vae_common.weights import PRETRAINED, load_weights

from solutions.ex07_rate_distortion import frontier_distortion, frontier_rate  # isort: skip
from solutions.ex08_importance_weighting import expected_share  # isort: skip
from solutions.ex11_linear_vae import diagonal_gap  # isort: skip

pytestmark = pytest.mark.browser
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install -e '.[test]'")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = (  # as root in a closed machine: no sandbox, and no look-ups of its own
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)
DESKTOP, PHONE = (1280, 900), (390, 844)
PATIENCE = 300  # seconds; a condition is met at once where nothing else runs
READY = "window.explorer && explorer.ready && explorer.state.posterior"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """One Chromium for the file, offline from its first page on."""
    if BROWSER is None or DRIVER is None:
        pytest.skip("no browser: install Debian's chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_network_conditions(offline=True, latency=0, throughput=0)
    driver.set_script_timeout(PATIENCE)
    yield driver
    driver.quit()


class Opened:
    """A page that the browser shows."""

    def __init__(self, driver, path: Path, size: tuple[int, int] = DESKTOP, scheme: str = "light", ready: str = READY):
        self.driver, self.path = driver, path
        self.look(size, scheme)
        driver.get_log("browser")
        driver.get(path.as_uri())
        self.until(ready)
        self.settle()

    def look(self, size: tuple[int, int] = DESKTOP, scheme: str = "light"):
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    def __call__(self, body: str, *given):
        return self.driver.execute_script(body, *given)

    def until(self, condition: str):
        end = time.monotonic() + PATIENCE
        while not self(f"return Boolean({condition})"):
            assert time.monotonic() < end, f"never: {condition}; {self.driver.get_log('browser')}"
            time.sleep(0.05)

    def until_painted(self):
        """Wait until the whole plane is decoded, and no other decoding of it is due."""
        self.until("explorer.space.manifold && !explorer.space.job && !explorer.space.due")

    def settle(self):
        """Wait until what was asked for has been drawn: two frames."""
        wait = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
        self.driver.execute_async_script(wait)

    def find(self, selector: str):
        return self.driver.find_element("css selector", selector)

    def show(self, selector: str):
        self("document.querySelector(arguments[0]).scrollIntoView({ block: 'center' })", selector)
        return self.find(selector)

    def show_network(self):
        self("document.getElementById('network').scrollIntoView()")
        self.until("document.querySelectorAll('#network .layer').length === 12")
        self.settle()

    def click(self, selector: str):
        self.show(selector).click()
        self.settle()

    def set(self, id: str, value: float, event: str = "input"):
        """Give a slider or a list another value, as a hand does."""
        self(
            """const [id, value, event] = arguments, node = document.getElementById(id);
            node.value = value;
            node.dispatchEvent(new Event(event));""", id, value, event,
        )  # fmt: skip
        self.settle()

    def texts(self, selector: str) -> list[str]:
        return self("return [...document.querySelectorAll(arguments[0])].map((node) => node.textContent)", selector)

    def text(self, id: str) -> str:
        return self("return document.getElementById(arguments[0]).textContent", id)

    def array(self, expression: str) -> np.ndarray:
        return np.array(self(f"return Array.from({expression})"), np.float32)

    def picture(self, id: str) -> np.ndarray:
        return self.greys(f"document.getElementById('{id}')")

    def greys(self, canvas: str, x: int = 0, y: int = 0) -> np.ndarray:
        """The (28, 28) grey values drawn on a canvas from (x, y): in the light scheme 1 is the ink #16191d on white."""
        red = self.array(f"{canvas}.getContext('2d').getImageData({x}, {y}, 28, 28).data")[::4]
        return (255 - red.reshape(28, 28)) / (255 - 0x16)

    def terms(self) -> list[float]:
        """The numbers shown: recon, kl, -elbo."""
        return [float(text.replace("\u2212", "-")) for text in self.texts("#terms dd")]

    def drag(self, id: str, *points: tuple[float, float]):
        """Press at the first point, given as shares of the width and height, and move through the others.

        Each move is drawn before the next: a busy browser takes several within a frame for one.
        """
        node = self.show(f"#{id}")
        width, height = self("return [arguments[0].offsetWidth, arguments[0].offsetHeight]", node)
        for k, (x, y) in enumerate(points):
            place = round((x - 0.5) * width), round((y - 0.5) * height)
            actions = webdriver.ActionChains(self.driver, duration=30).move_to_element_with_offset(node, *place)
            (actions if k else actions.click_and_hold()).perform()
            self.settle()
        webdriver.ActionChains(self.driver).release().perform()
        self.settle()

    def keys(self, *keys: str, held: str = ""):
        actions = webdriver.ActionChains(self.driver)
        (actions.key_down(held).send_keys(*keys).key_up(held) if held else actions.send_keys(*keys)).perform()
        self.settle()

    def errors(self) -> list[str]:
        """What the console said, but for advice on how the tests themselves read pixels."""
        said = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] != "DEBUG"]
        return [message for message in said if "willReadFrequently" not in message]


@pytest.fixture(scope="module")
def pages(tmp_path_factory, digits):
    """Write the page of a run with those settings and data, or of the shipped weights of that Z, once; its path."""
    folder, written = tmp_path_factory.mktemp("pages"), {}

    def write(pretrained: int = 0, data: ImageSet | None = None, name: str = "", **settings) -> Path:
        key = name or f"{pretrained} {settings}"
        if key not in written:
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(folder)
                if pretrained:
                    assert latent_explorer.main(["--pretrained", "--latent-dim", str(pretrained)]) == 0
                    written[key] = folder / f"runs/pretrained-z{pretrained}/explorer.html"
                else:
                    patch.setattr(RunConfig, "load", lambda *args: data or first(60, digits))
                    run = finished_run(folder / f"run-{len(written)}", **settings)
                    assert latent_explorer.main([str(run)]) == 0
                    written[key] = run / "explorer.html"
        return written[key]

    return write


@pytest.fixture
def opened(browser, pages):
    """Open a page; at the end nothing may have been said in the console, and nothing asked of the network.

    A page that the last test left open is taken as it is: a test first sets what it builds on.
    """
    shown = []

    def show(size=DESKTOP, scheme="light", **settings) -> Opened:
        path, last = pages(**settings), getattr(browser, "last_page", None)
        if last is None or last.path != path:
            browser.last_page = last = Opened(browser, path, size, scheme)
        last.look(size, scheme)
        last.settle()
        shown.append(last)
        return last

    yield show
    for page in shown[-1:]:
        assert page("return performance.getEntriesByType('resource').map((entry) => entry.name)") == []
        assert page.errors() == []


SHIPPED = dict(pretrained=2)


@pytest.fixture(scope="module")
def params():
    return load_weights(PRETRAINED / "digits-z2.safetensors")


def decoded(params, z: np.ndarray) -> np.ndarray:
    """Level 1's pixel means (28, 28) at z (Z,)."""
    return vae_numpy.sigmoid(vae_numpy.decode(params, z[None].astype(np.float32)))[0, 0]


ONE_GREY = 0.5 / 255 + 0.5 / (255 - 0x16) + 1e-4  # a value is rounded to one of 256, then its colour to a byte


# --- numbers ------------------------------------------------------------------------------------------------------


def test_dragging_decodes_the_place_under_the_pointer(opened, params):
    page = opened(**SHIPPED)
    half, width = page("const c = document.getElementById('latent-plane'); return [explorer.space.half, c.clientWidth]")
    seen = []
    for across, up in [(0.25, 0.25), (0.8, 0.6)]:
        page.drag("latent-plane", (0.5, 0.5), (across, up))
        z = page.array("explorer.state.z")
        expected = [(2 * across - 1) * half, (1 - 2 * up) * half]
        np.testing.assert_allclose(z, expected, rtol=0, atol=2 * half * 2 / width)  # two pixels: rounding, the border
        np.testing.assert_allclose(page.picture("decoded"), decoded(params, z), rtol=0, atol=ONE_GREY)
        assert page.text("z-text") == f"z = ({z[0]:.2f}, {z[1]:.2f})".replace("-", "\u2212")
        seen.append(page.picture("decoded"))
    assert np.abs(seen[0] - seen[1]).max() > 0.5  # another digit
    mu = page.array("explorer.run.mu").reshape(-1, 2)
    nearest = np.argmin(((mu - z) ** 2).sum(axis=1))
    assert f"a {page.array('explorer.run.labels')[nearest]:.0f}," in page.text("nearest-text")


def test_the_whole_plane_is_decoded_beneath_the_dots(opened, params):
    page = opened(**SHIPPED)
    page.until_painted()
    half = page("return explorer.space.half")
    for column, row in [(0, 0), (14, 0), (7, 7), (3, 11)]:
        z = np.array([(2 * (column + 0.5) / 15 - 1) * half, (1 - 2 * (row + 0.5) / 15) * half])
        tile = page.greys("explorer.space.manifold", 28 * column, 28 * row)
        np.testing.assert_allclose(tile, decoded(params, z), rtol=0, atol=ONE_GREY)


def test_dots_and_ring_stand_where_their_numbers_say(opened):
    page = opened(**SHIPPED)
    page.drag("latent-plane", (0.5, 0.5), (0.94, 0.3))
    for name in ("manifold", "prior"):
        page.click(f"label:has(#show-{name})")
    half, size = page("return [explorer.space.half, document.getElementById('latent-plane').clientWidth]")
    mu = page.array("explorer.run.mu").reshape(-1, 2)[:300]
    points = np.vstack([mu[np.abs(mu).max(axis=1) < 0.98 * half], page.array("explorer.state.z")])
    places = (size * (points * [1, -1] + half) / (2 * half)).astype(int)
    places[-1, 0] += 8  # from the ring's centre to its edge
    read = """const context = document.getElementById("latent-plane").getContext("2d");
        return arguments[0].map(([x, y]) => Array.from(context.getImageData(x, y, 1, 1).data));"""
    found = np.array(page(read, places.tolist()))  # RGBA
    assert len(found) > 280 and found[:-1, 3].min() > 100  # ink, where the canvas is else clear
    np.testing.assert_allclose(found[-1, :3], [0xD4, 0x38, 0x0D], atol=40)  # the ring's smoothed edge
    for name in ("manifold", "prior"):
        page.click(f"label:has(#show-{name})")


def test_drawing_encodes_what_was_drawn(opened, params):
    page = opened(**SHIPPED)
    page.click("#clear")
    assert not page.array("explorer.state.pixels").any()
    page.drag("pad", (0.3, 0.2), (0.7, 0.2), (0.45, 0.8))
    pixels = page.array("explorer.state.pixels").astype(np.uint8).reshape(28, 28)
    assert pixels[5, 9:19].min() == 255  # the stroke's first line runs at 0.2 x 28 = 5.6
    assert pixels[:3].max() == 0 and pixels[25:].max() == 0 and 40 < (pixels > 0).sum() < 160
    np.testing.assert_allclose(page.picture("pad"), pixels / 255, rtol=0, atol=ONE_GREY)
    check_posterior(page, params, pixels)


def check_posterior(page: Opened, params, pixels: np.ndarray) -> None:
    """All that is shown of an image against level 1."""
    x = (pixels.reshape(1, 1, 28, 28) / np.float32(255)).astype(np.float32)
    eps = page.array("explorer.state.eps")[None]
    x_logits, mu, logvar = vae_numpy.forward(params, x, eps)
    recon, kl = vae_numpy.elbo_terms(x, x_logits, mu, logvar)
    expected = [recon[0], kl[0], recon[0] + kl[0]]
    np.testing.assert_allclose(page.terms(), expected, rtol=2e-5, atol=0.0051)  # shown with two decimals
    np.testing.assert_allclose(page.picture("reconstruction"), vae_numpy.sigmoid(x_logits)[0, 0], rtol=0, atol=ONE_GREY)
    cells = np.reshape(page.texts("#posterior :is(th, td)"), (mu.shape[1], 5))
    for name, *numbers, _ in cells.tolist():
        k = int(name[2:-1])
        std = np.exp(0.5 * logvar[0, k])
        kl_k = 0.5 * (mu[0, k] ** 2 + std**2 - 1 - logvar[0, k])
        shown = [float(text.replace("\u2212", "-")) for text in numbers]
        np.testing.assert_allclose(shown, [mu[0, k], std, kl_k], rtol=0, atol=0.0051)


def test_picking_an_image_and_resampling_eps(opened, params, digits):
    page = opened(**SHIPPED)
    page.click("#thumbs button:nth-child(4)")
    assert page.array("explorer.state.pixels").tolist() == digits.images[3].ravel().tolist()
    assert page("return document.querySelectorAll('#thumbs [aria-pressed=true]').length") == 1
    check_posterior(page, params, digits.images[3])
    mean, seen = page.terms(), []
    for _ in range(4):
        page.click("#resample")
        seen.append(page.array("explorer.state.eps"))
        check_posterior(page, params, digits.images[3])
    assert np.std(seen) > 0.1 and page("return explorer.state.samples.length") == 4
    page.click("#no-noise")
    assert page.terms() == mean and page("return explorer.state.samples.length") == 0
    page.click("#next-image")
    check_posterior(page, params, digits.images[4])
    page.click("#more-images")
    assert page("return document.querySelector('#thumbs button').value") == "18"


@pytest.mark.slow
def test_eps_is_standard_normal(opened):
    page = opened(latent_dim=64)
    page("let k = 1; Math.random = () => (k = (k * 48271) % 2147483647) / 2147483647")  # the same numbers each time
    drawn = []
    for _ in range(30):
        page("document.getElementById('resample').click()")
        drawn.append(page.array("explorer.state.eps"))
    drawn = np.concatenate(drawn)  # 1,920 numbers: four standard errors of mean and variance
    assert abs(drawn.mean()) < 4 / 1920**0.5 and abs(drawn.var() - 1) < 4 * (2 / 1920) ** 0.5


@pytest.mark.slow
def test_interpolation_walks_from_one_mean_to_the_other(opened, params, digits):
    page = opened(**SHIPPED)
    one, other = page("return explorer.state.end_images")
    assert digits.labels[one] != digits.labels[other]
    ends, _ = vae_numpy.encode(params, binarize(digits.images[[one, other]], "none"))
    for kind, path in (("lerp", latent_paths.lerp), ("slerp", latent_paths.slerp)):
        page.click(f"#path-kind label:has([value={kind}])")
        page.set("t", 0.25)
        z = path(*ends, np.array([0.25]))[0]
        np.testing.assert_allclose(page.picture("between"), decoded(params, z), rtol=0, atol=ONE_GREY + 1e-3)
        assert f"{np.linalg.norm(z):.2f} from the origin" in page.text("between-text")
    page.click("#another-1")
    assert page("return explorer.state.end_images")[1] != other
    page.click("#clear")
    page.drag("pad", (0.5, 0.2), (0.5, 0.8))
    page.click("#use-0")
    np.testing.assert_allclose(page.picture("end-0"), page.picture("pad"), rtol=0, atol=1e-6)


def test_the_network_shows_every_layer_with_its_shape(opened, params):
    page = opened(**SHIPPED)
    page.show_network()
    shown = " ".join(page.texts("#network .layer"))
    x = (page.array("explorer.state.pixels") / np.float32(255)).reshape(1, 1, 28, 28)
    layers = layers_of_level_1(params, x, page.array("explorer.state.eps")[None])
    for layer, h in layers:
        shape = "(" + ", ".join(map(str, layer.output)) + ("," if len(layer.output) == 1 else "") + ")"
        numbers = f"min {h.min():.2f}, mean {h.mean():.2f}, max {h.max():.2f}".replace("-", "\u2212")
        assert layer.name in shown and f"output {shape}" in shown and numbers in shown
    drawn = page(
        """const bytes = (c) => c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
        return [...document.querySelectorAll(".maps")].map((canvas) => new Set(bytes(canvas)).size);"""
    )
    assert len(layers) == 9 and min(drawn) >= 3  # more than one colour and the opaque alpha


# --- keys, labels, layout -----------------------------------------------------------------------------------------


def test_the_plane_and_the_pad_answer_to_keys(opened):
    page = opened(**SHIPPED)
    half = page("return explorer.space.half")
    page.click("#origin-z")
    page("document.getElementById('latent-plane').focus()")
    page.keys(webdriver.Keys.ARROW_RIGHT, webdriver.Keys.ARROW_RIGHT, webdriver.Keys.ARROW_UP)
    np.testing.assert_allclose(page.array("explorer.state.z"), [0.04 * half, 0.02 * half], rtol=1e-6)
    page.keys(webdriver.Keys.ARROW_DOWN, held=webdriver.Keys.SHIFT)
    np.testing.assert_allclose(page.array("explorer.state.z"), [0.04 * half, -0.08 * half], rtol=1e-6)
    page.keys(*[webdriver.Keys.ARROW_LEFT] * 24, held=webdriver.Keys.SHIFT)
    assert page.array("explorer.state.z")[0] == pytest.approx(-half)  # the edge holds
    page.until("document.getElementById('live').textContent.includes('z = ')")  # said aloud
    page.keys(webdriver.Keys.HOME)
    assert not page.array("explorer.state.z").any()
    page.click("#clear")
    page("document.getElementById('pad').focus()")
    page.keys(webdriver.Keys.ARROW_LEFT, webdriver.Keys.ARROW_UP, webdriver.Keys.SPACE)
    pixels = page.array("explorer.state.pixels").reshape(28, 28)
    assert pixels[13, 13] == 255 and 5 <= np.count_nonzero(pixels) <= 9


def test_the_tab_key_reaches_every_control_in_order_and_shows_where_it_is(opened):
    page = opened(**SHIPPED)
    expected = page(
        """const stops = (node) => node.getClientRects().length && !(node.type === "radio" && !node.checked);
        return [...document.querySelectorAll("a, button, select, input, [tabindex], summary")].filter(stops)
          .map((node) => node.id || node.textContent || node.value)"""
    )
    page("scrollTo(0, 0); document.querySelector('.skip').focus()")
    reached, hidden = [expected[0]], []
    for _ in expected[1:]:
        page.keys(webdriver.Keys.TAB)
        name, shown = page(
            """const node = document.activeElement, look = getComputedStyle(node.closest("label.chip") ?? node);
            const outlined = look.outlineStyle !== "none" && parseFloat(look.outlineWidth) >= 2;
            return [node.id || node.textContent || node.value, outlined]"""
        )
        reached.append(name)
        hidden += [] if shown else [name]
    assert reached == expected and not hidden


@pytest.mark.parametrize(
    ("size", "scheme"),
    [(PHONE, "dark"), *(pytest.param(size, "light", marks=pytest.mark.slow) for size in (DESKTOP, (320, 640)))],
)
def test_the_layout_fits_and_follows_the_colour_scheme(size, scheme, opened):
    page = opened(**SHIPPED, size=size, scheme=scheme)
    page("scrollTo(0, 0)")
    page.until_painted()
    wide = page(
        """const width = document.documentElement.clientWidth;
        const shown = (node) => node.getClientRects().length && node.getBoundingClientRect().right > width + 0.5;
        const nodes = [...document.querySelectorAll("body *:not(.visually-hidden)")];
        return nodes.filter(shown).map((node) => node.outerHTML)"""
    )
    assert wide == [] and page("return document.documentElement.scrollWidth") <= size[0]
    small = page(
        """const small = (node) => node.getClientRects().length && node.getBoundingClientRect().height < 24;
        const nodes = [...document.querySelectorAll("button, select, label.chip")];
        return nodes.filter(small).map((node) => node.outerHTML)"""
    )
    assert small == []  # WCAG 2.2: a target of at least 24 pixels
    red = int(re.search(r"\d+", page("return getComputedStyle(document.body).backgroundColor"))[0])
    assert (red > 200) == (scheme == "light")
    corner = "document.getElementById('decoded').getContext('2d').getImageData(0, 0, 1, 1).data[0]"
    page.until(f"({corner} > 200) === {str(scheme == 'light').lower()}")  # what was drawn is drawn again
    ends = "return ['decoded', 'latent-plane'].map((id) => document.getElementById(id).getBoundingClientRect().bottom)"
    assert max(page(ends)) < (size[1] if size != (320, 640) else 800)  # image and plane are seen together


# --- other models -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_class_switch_of_a_conditional_model(opened):
    page = opened(model="cvae", latent_dim=3)
    for y in (2, 7):
        page.click(f"#class-switch label:has([value='{y}'])")
        x_logits = page.array(f"explorer.decode(explorer.params, explorer.state.z, {y})").reshape(28, 28)
        np.testing.assert_allclose(page.picture("decoded"), vae_numpy.sigmoid(x_logits), rtol=0, atol=ONE_GREY)
        assert page("return explorer.state.y") == y
    before = page.terms()
    page.click("#image-class label:has([value='9'])")
    assert page("return explorer.state.y_image") == 9 and page.terms() != before
    page.click("#path-class label:has([value='5'])")
    page.click("#thumbs button:nth-child(2)")
    state = page("return [explorer.state.y_path, explorer.state.y_image, explorer.run.labels[1]]")
    assert state[0] == 5 and state[1] == state[2]


@pytest.mark.slow
def test_an_autoencoder_has_a_code_and_no_posterior_and_a_collapsed_model_is_called_so(opened):
    page = opened(model="ae", latent_dim=1)
    assert not page.find("#noise").is_displayed() and not page.find("#random-z").is_displayed()
    assert page.texts("#terms dt") == ["recon, nats", "squared error per pixel"]
    np.testing.assert_array_equal(page.array("explorer.state.posterior.z"), page.array("explorer.state.posterior.mu"))
    assert not page.find("#collapse").is_displayed()
    page = opened(latent_dim=6, change=collapse, name="collapsed")
    assert page.find("#collapse").is_displayed() and "has collapsed" in page.text("collapse-text")
    assert page("return document.querySelectorAll('.slider.inactive').length") == 6 and page.terms()[1] == 0


@pytest.mark.slow
def test_many_dimensions_have_sliders_ordered_by_kl_and_any_plane(opened):
    page = opened(pretrained=20)
    dims = "return [...document.querySelectorAll(arguments[0])].map((node) => Number(node.id.slice(2)))"
    order, greyed = page(dims, ".slider input[id^=z-]"), page(dims, ".slider.inactive input")
    kl, active = page("return [explorer.run.kl_per_dim, explorer.run.active]")
    assert order == sorted(range(20), key=lambda k: -kl[k])
    assert sorted(greyed) == [k for k in range(20) if not active[k]]
    assert page("return explorer.space.dims") == sorted(order[:2])
    page.set("axis-0", order[4], "change")
    page.drag("latent-plane", (0.5, 0.5), (0.75, 0.5))
    z = page.array("explorer.state.z")
    assert z[order[4]] > 1 and np.count_nonzero(np.abs(z) > 0.1) == 1
    page.set(f"z-{order[0]}", 1.5)
    z[order[0]] = 1.5
    params = load_weights(PRETRAINED / "digits-z20.safetensors")
    np.testing.assert_allclose(page.picture("decoded"), decoded(params, z), rtol=0, atol=ONE_GREY)
    page.until_painted()


# --- hostile and odd runs -----------------------------------------------------------------------------------------


HOSTILE_PAGE = dict(model="cvae", latent_dim=2, name="hostile", size=PHONE)


def test_markup_in_names_is_shown_and_does_not_run(opened, digits):
    page = opened(**HOSTILE_PAGE, data=hostile(digits))
    shown = page.texts("#legend button")
    assert set(shown) <= set(HOSTILE) and len(shown) > 5 and HOSTILE[0] in shown
    page.click("#legend button")
    page.drag("latent-plane", (0.5, 0.5), (0.3, 0.7))
    assert page("return window.pwned === undefined && document.querySelectorAll('img, b').length === 0")
    assert "<b>digits</b>" in page.text("kicker")
    assert page("return document.documentElement.scrollWidth") <= PHONE[0]


def test_every_control_and_picture_has_a_name(opened, digits):
    page = opened(**HOSTILE_PAGE, data=hostile(digits))
    page.show_network()
    nameless = page(
        """const labelled = (node) => [...(node.labels ?? [])].some((label) => label.textContent.trim());
        const named = (node) => node.textContent.trim() || labelled(node) || node.hasAttribute("aria-labelledby")
          || node.closest("[aria-hidden=true], [aria-label]");
        return [...document.querySelectorAll("button, input, select, canvas, [role]")].filter((node) => !named(node))
          .map((node) => node.outerHTML)"""
    )
    assert nameless == []
    assert page("return document.documentElement.lang") == "en" and len(page.texts("h1")) == 1
    ids = page("return [...document.querySelectorAll('[id]')].map((node) => node.id)")
    assert len(ids) == len(set(ids))


@pytest.mark.slow
@pytest.mark.parametrize("latent_dim", [1, 64])
def test_one_and_many_dimensions_and_a_run_without_labels(latent_dim, opened, digits):
    labelled = latent_dim > 1
    page = opened(latent_dim=latent_dim, data=first(40, digits, labelled), name=f"{latent_dim}", size=PHONE)
    page.until("explorer.space.manifold")
    page.drag("latent-plane", (0.5, 0.5), (0.9, 0.2))
    assert np.isfinite(page.array("explorer.state.z")).all()
    assert page.find("#legend").is_displayed() == labelled
    assert labelled or "Nearest test image: no. " in page.text("nearest-text")
    for id in ("resample", "next-image", "another-0", "use-1", "random-z"):
        page.click(f"#{id}")
    page.show_network()
    for size in (PHONE, DESKTOP):
        page.look(size)
        page.settle()
        assert page("return document.documentElement.scrollWidth") <= size[0]


@pytest.mark.slow
def test_numbers_that_are_not_finite_are_named(opened):
    """Weights that are finite one by one and overflow float32 together."""
    page = opened(latent_dim=2, name="overflowing")
    page("explorer.params['decoder.fc1.bias'].fill(3e38); explorer.params['decoder.fc2.weight'].fill(10)")
    page.drag("latent-plane", (0.5, 0.5), (0.9, 0.2))
    page.click("#next-image")
    assert "not finite" in page.text("z-text") and "not finite" in page.text("terms")


# --- the sliders of the exercises ---------------------------------------------------------------------------------


@pytest.fixture
def sliders(browser):
    """A function: give sliders these values, and read the numbers with these names."""
    browser.last_page = page = Opened(browser, EXERCISES / "sliders.html", ready="gap.textContent")

    def shown(values: dict[str, float], *names: str) -> list[float]:
        for id, value in values.items():
            page.set(id, value)
        return [float(page.text(name).replace("\u2212", "-").replace(",", "")) for name in names]

    shown.page = page
    yield shown
    assert page("return performance.getEntriesByType('resource').map((entry) => entry.name)") == []
    assert page.errors() == []


def test_the_sliders_show_the_numbers_of_the_solutions(sliders):
    variance, s2 = np.array([4.0]), 0.5
    for sigma, log_beta in ((0.8, 1), (0.05, -2), (0.35, 2.5), (1, 4)):
        found = sliders({"sigma": sigma, "log-beta": log_beta}, "rate", "distortion", "loss", "least")
        own, beta = variance[0] * sigma**2 / s2, 2**log_beta  # at its own price this sigma is the best one
        R, D = (frontier(variance, s2, own) for frontier in (frontier_rate, frontier_distortion))
        least = frontier_distortion(variance, s2, beta) + beta * frontier_rate(variance, s2, beta)
        np.testing.assert_allclose(found, [R, D, D + beta * R, least], rtol=0, atol=0.00051)  # three decimals
    for c, Z in ((1, 20), (1.5, 10), (0.8, 3), (0.5, 10), (3, 1)):
        log_c = np.full((1, Z), np.log(c))
        gap, other_way = (vae_numpy.gaussian_kl(0 * log_c, 2 * way * log_c)[0] for way in (1, -1))
        found = sliders({"c": c, "dims": Z}, "share", "below", "needed")
        np.testing.assert_allclose(found[:2], [expected_share(c, Z), gap], rtol=0, atol=0.00051)
        assert found[2] == round(np.exp(other_way))
    for angle, ratio in ((0, 3), (45, 9), (30, 1.5), (80, 1)):
        cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        W = np.sqrt([[2 * ratio - 1], [1]]) * [[cos, -sin], [sin, cos]]  # s2 = 1: variances 2 ratio and 2
        [found] = sliders({"angle": angle, "ratio": ratio}, "gap")
        assert found == pytest.approx(diagonal_gap(W, 1.0), abs=0.000051)


def test_the_dots_of_the_sliders_stand_where_their_numbers_say(sliders):
    place = """const [dot, frame] = ["circle", ".frame"].map((name) => node(arguments[0]).querySelector(name));
        const [x, y, w, h] = ["x", "y", "width", "height"].map((name) => Number(frame.getAttribute(name)));
        return [(dot.getAttribute("cx") - x) / w, (y + h - dot.getAttribute("cy")) / h]"""
    R, D = sliders({"sigma": 0.4}, "rate", "distortion")
    np.testing.assert_allclose(sliders.page(place, "plane"), [R / 3, D / 5], atol=0.001)
    c, share = sliders({"c": 1.2, "dims": 5}, "c-shown", "share")
    np.testing.assert_allclose(sliders.page(place, "shares"), [(c - 0.4) / 2.6, share / 1.05], atol=0.001)
    angle, gap = sliders({"angle": 60, "ratio": 7}, "angle-shown", "gap")
    np.testing.assert_allclose(sliders.page(place, "gaps"), [angle / 90, gap / 0.6], atol=0.001)


def test_the_sliders_have_labels_take_keys_and_fit(sliders):
    page = sliders.page
    assert page("return [...document.querySelectorAll('input')].map((node) => node.labels.length)") == [1] * 6
    page("document.getElementById('angle').focus()")
    page.keys(webdriver.Keys.ARROW_RIGHT, webdriver.Keys.ARROW_RIGHT)
    assert page.text("angle-shown") == "32"
    for size, scheme in ((PHONE, "dark"), ((320, 640), "light")):
        page.look(size, scheme)
        page.settle()
        assert page("return document.documentElement.scrollWidth") <= size[0]
        red = int(re.search(r"\d+", page("return getComputedStyle(document.body).backgroundColor"))[0])
        assert (red > 200) == (scheme == "light")
