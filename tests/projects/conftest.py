"""What the tests of the projects' pages share."""

import shutil

import pytest

CHROMIUM_FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync"
)


@pytest.fixture(scope="module")
def browser():
    """The Chromium that is installed on this system, without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: python -m study setup --extra browser")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("needs Chromium or Chrome on the PATH")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=CHROMIUM_FLAGS.split())
        yield browser
        browser.close()
