"""What the tests of the projects share."""

import contextlib
import itertools
import shutil
import signal

import pytest

CHROMIUM_FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync"
)


@pytest.fixture(scope="module")
def launch():
    """Start the Chromium that is installed on this system, without a window: launch("--some-flag")."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: python -m study setup --extra browser")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("needs Chromium or Chrome on the PATH")
    with playwright.sync_playwright() as running, contextlib.ExitStack() as cleanup:

        def start(*flags: str):
            browser = running.chromium.launch(executable_path=program, args=[*CHROMIUM_FLAGS.split(), *flags])
            cleanup.callback(browser.close)
            return browser

        yield start


@pytest.fixture(scope="module")
def browser(launch):
    """A browser without a window."""
    return launch()


@pytest.fixture
def press_ctrl_c(monkeypatch):
    """Press Ctrl-C while certain steps are computed: with press_ctrl_c(train, "compute_loss", 18): main()

    It does what it does in a terminal, even where the tests themselves were started in the background.
    """

    @contextlib.contextmanager
    def pressing(module, name: str, *steps: int):
        """Count the calls of module.name, which is called once a step; in each of `steps` the key is pressed."""
        compute, count = getattr(module, name), itertools.count(1)

        def pressed(*arguments, **settings):
            if next(count) in steps:
                signal.raise_signal(signal.SIGINT)
            return compute(*arguments, **settings)

        with monkeypatch.context() as patch:
            patch.setattr(module, name, pressed)
            yield

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield pressing
    signal.signal(signal.SIGINT, before)
