"""What the tests of the projects share."""

import contextlib
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
def ctrl_c():
    """Ctrl-C does what it does in a terminal, even where the tests themselves were started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
