"""Project 7's report: one file with everything in it, nothing from elsewhere, the same in both languages, and usable."""

import functools
import http.server
import json
import math
import re
import threading

import pytest
import torch
from projects.serving import check_both_languages_say_the_same, until

from project7_forecasting import report
from project7_forecasting.backtest import Backtest, judge, save
from utils import paths
from utils.lesson import LessonError

MARKUP = "<img src=x onerror='document.title=1'></script><b>y</b>"
METHODS = ("last value", "drift", "seasonal naive", "moving average", "climatology", "ridge", "LSTM", "convolution", "N-BEATS")


def made_up(name: str, better: float, seed: int = 0, horizon: int = 3, target: str = "y") -> Backtest:
    """A backtest in which the networks' error is `better` times the last value's; a target and a value before are missing."""
    draw = torch.Generator().manual_seed(seed)
    count, rows = 60, 100
    history = torch.randn(rows, generator=draw).cumsum(dim=0) + 50
    origins = torch.arange(30, 30 + count)
    targets = torch.stack([history[origins + 1 + step] for step in range(horizon)], dim=1)
    targets[5, 0] = math.nan
    history[36] = math.nan
    spread = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0])
    quantiles = {}
    for method in (*METHODS, "networks"):
        size = better if method == "networks" else 1.0
        noise = size * (1 + 0.3 * torch.randn(count, horizon, generator=draw)) * (-1) ** torch.arange(count)[:, None]
        quantiles[method] = (targets.nan_to_num(50.0) + noise)[..., None] + spread
    seeds = {method: torch.rand(2, 2, generator=draw) for method in (*METHODS[6:], "networks")}
    dates = [f"2024-{1 + row // 28:02}-{1 + row % 28:02}" for row in range(rows + horizon)]
    future = {method: one[-1] for method, one in quantiles.items()}
    fold = (torch.arange(count) >= 30).long()
    return Backtest(
        *(name, f"{name} of a toy world", target, "m", 7, 1, fold, origins, targets, quantiles, quantiles, seeds),
        *(history, dates, future, torch.zeros(horizon, 2)),
    )


@pytest.fixture(scope="module")
def backtests():
    return [made_up("weather", better=0.5), made_up("prices", better=1.0, seed=1, target=MARKUP)]


@pytest.fixture(scope="module")
def html(backtests):
    return report.render(backtests)


class TestFile:
    def test_says_what_was_measured(self, html, backtests):
        told = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)[1])
        weather, prices = told["series"]
        assert weather["winners"] == ["networks"] and prices["winners"] == []
        networks = weather["methods"][-1]
        assert networks["name"] == "networks" and networks["is_better"] and not networks["is_rule"]
        found = judge(backtests[0])["networks"]
        assert networks["difference"] == pytest.approx(found.difference, rel=1e-3)
        assert networks["interval"] == pytest.approx(found.interval(), rel=1e-3)
        assert networks["error"] == pytest.approx(backtests[0].errors("networks").nanmean().item(), rel=1e-3)
        assert prices["target"] == MARKUP and len(weather["methods"]) == 10
        first = 30 - 6 * 3
        assert weather["origins"][0] == 30 - first and weather["history"][36 - first] is None
        assert weather["dates"][-1] == "2024-04-19" and len(weather["dates"]) == len(weather["history"]) + 3

    def test_takes_nothing_from_elsewhere(self, html):
        policy = re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', html)[1]
        assert "default-src 'none'" in policy and "unsafe" not in policy and len(re.findall("'sha256-", policy)) == 4
        addresses = set(re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]+", html))
        assert addresses == {"http://www.w3.org"}, addresses
        for risk in ("innerHTML", "insertAdjacentHTML", "eval("):
            assert risk not in html

    def test_names_from_a_file_cannot_end_the_script(self, html):
        assert MARKUP not in html and html.count("</script>") == 3 and "NaN" not in html

    def test_both_languages_say_the_same(self):
        check_both_languages_say_the_same(report.PAGE, more_than=25)

    def test_many_forecasts_are_thinned_out(self, monkeypatch, backtests):
        monkeypatch.setattr(report, "MOST_SHOWN", 20)
        told = report.facts(backtests[0])
        assert len(told["origins"]) == 20 == len(told["walks"]["networks"]) and told["forecasts"] == 60

    def test_command_writes_it_again(self, backtests, tmp_path, capsys):
        with pytest.raises(LessonError, match="python -m study run project7"):
            report.main()
        save(tmp_path / "b.pt", backtests)
        found = report.main(backtests=tmp_path / "b.pt")
        assert found["series"] == 2 and (paths.outputs("project7_forecasting") / "report.html").exists()
        assert "prices: nothing beats the last value" in capsys.readouterr().out
        report.main(backtests=tmp_path / "b.pt", to=tmp_path / "mine.html")
        assert [file.name for file in sorted(tmp_path.glob("*.html*"))] == ["mine.html"]


# --------------------------------------------------------------------------------------------------- a real browser


@pytest.fixture(scope="module")
def address(html, tmp_path_factory):
    """The report on a server of this computer, as somebody would put it there."""
    folder = tmp_path_factory.mktemp("web")
    (folder / "report.html").write_text(html, encoding="utf-8")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/report.html"
    server.shutdown()


@pytest.fixture
def opened(browser, address):
    """Open the report as one reader sees it; whatever the browser complains about, or fetches beside it, fails the test."""
    complaints, contexts = [], []

    def open_page(query: str = "", place: str = "", **settings):
        contexts.append(browser.new_context(**{"viewport": {"width": 1100, "height": 900}, "locale": "en-US", **settings}))
        tab = contexts[-1].new_page()
        tab.set_default_timeout(30_000)  # a busy machine is slow, and right
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on(
            "request",
            lambda request: "report.html" in request.url or request.url.startswith("data:") or complaints.append(request.url),
        )
        tab.goto(f"{place or address}{query}")
        tab.wait_for_selector("#verdict:not(:empty)")
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


class TestBrowser:
    def test_verdicts(self, opened):
        tab = opened()
        assert re.fullmatch(r"all networks: \d\d\.\d% less error than the last value\.", tab.inner_text("#verdict"))
        assert "Better than the last value beyond doubt: all networks." in tab.inner_text("#details")
        assert "That is beyond doubt." in tab.inner_text("#details")
        tab.click("#series button >> nth=1")
        assert tab.inner_text("#verdict") == "Nothing beats the last value."
        assert "could be true" in tab.inner_text("#details") and "That may be chance." in tab.inner_text("#details")
        assert tab.get_attribute("#series button >> nth=1", "aria-pressed") == "true"
        assert tab.locator("#table tr.better").count() == 0

    def test_opens_from_the_disk(self, opened, html, tmp_path):
        path = tmp_path / "report.html"
        path.write_text(html, encoding="utf-8")
        tab = opened("?lang=ko", place=path.as_uri())
        assert tab.title() == "다음에는 무엇이 올까요?" and "신경망 전체" in tab.inner_text("#verdict")

    def test_slider_walks_through_the_tests_by_keyboard(self, opened, backtests):
        tab = opened()
        tab.focus("#origin")
        tab.keyboard.press("Home")
        assert tab.inner_text("#now") == f"after {backtests[0].dates[30]}" == tab.get_attribute("#origin", "aria-valuetext")
        before = tab.get_attribute("#walked .median", "d")
        tab.keyboard.press("ArrowRight")
        assert tab.inner_text("#now") == f"after {backtests[0].dates[31]}"
        assert tab.get_attribute("#walked .median", "d") != before
        tab.keyboard.press("End")
        assert tab.get_attribute("#walked .came", "d") != ""
        line = tab.get_attribute("#walked .outer", "d")
        tab.select_option("#method", "ridge")
        assert tab.get_attribute("#walked .outer", "d") != line

    def test_what_was_not_measured_is_a_hole(self, opened):
        tab = opened()
        tab.evaluate(
            "() => { const range = document.getElementById('origin'); range.value = 8; range.dispatchEvent(new Event('input')); }"
        )
        assert tab.get_attribute("#walked .known", "d").count("M") == 2
        assert "NaN" not in tab.evaluate("document.body.outerHTML")

    def test_numbers_of_what_comes(self, opened, backtests):
        tab = opened()
        rows = tab.locator("#numbers tbody tr")
        assert rows.count() == 3
        median = backtests[0].future["networks"][0, 2].item()
        assert rows.nth(0).locator("td").nth(1).inner_text() == f"{median:.4g}"
        assert rows.nth(0).locator("td").nth(0).inner_text() == backtests[0].dates[100]

    def test_table_has_every_method(self, opened):
        tab = opened("?lang=ko")
        names = tab.locator("#table tbody td:first-child").all_inner_texts()
        assert len(names) == 10 and names[0] == "마지막 값" and names[-1].startswith("신경망 전체")
        assert tab.locator("#table tr.better").count() == 1

    def test_markup_is_shown_and_never_executed(self, opened):
        tab = opened()
        tab.click("#series button >> nth=1")
        assert MARKUP in tab.inner_text("#source") and tab.locator("#source b").count() == 0
        assert tab.title() == "What comes next?"

    def test_narrow_screen_in_the_dark(self, opened):
        tab = opened("?lang=ko", viewport={"width": 360, "height": 740}, color_scheme="dark", has_touch=True)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 360
        light, dark = (
            opened(color_scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
            for scheme in ("light", "dark")
        )
        assert light != dark

    def test_each_picture_has_a_name(self, opened):
        tab = opened()
        for picture in ("future", "walked", "byAhead", "byHeld"):
            assert len(tab.get_attribute(f"#{picture}", "aria-label")) > 8
            box = tab.locator(f"#{picture}").bounding_box()
            assert box["width"] > 200 and box["height"] > 100
        until(tab, "document.querySelectorAll('#byAhead path').length >= 8")
