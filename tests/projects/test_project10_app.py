"""Project 10's page: the API and its limits, and a real browser with a microphone that says known digits."""

import base64
import io
import re
import struct
import threading
import wave as wave_files
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import torch
from projects.serving import (
    check_both_languages_say_the_same,
    check_only_this_computers_names,
    check_refused,
    check_takes_nothing_from_elsewhere,
    serving,
    until,
)
from projects.speech_world import RATE, clips, spoken, tone, trained_listener

from project10_speech import app as page
from project10_speech.listener import save_network
from utils import web
from utils.lesson import LessonError
from utils.sound import resampled, wav_bytes

SAID = [7, 3, 0, 5]


def sentence(digits, pause: float = 0.25, before: float = 0.4, after: float = 0.4) -> torch.Tensor:
    """Digits in tones, with a faint background, as the microphone hears them: (n,) at 8 kHz."""
    generator = torch.Generator().manual_seed(1)
    silence = torch.zeros(int(pause * RATE))
    parts = [torch.zeros(int(before * RATE)), *(part for digit in digits for part in (tone(digit, generator), silence))]
    wave = torch.cat([*parts, torch.zeros(int(after * RATE))])
    return wave + 1e-3 * torch.randn(len(wave), generator=generator)


class Parrot:
    """In place of Whisper: says how long it has listened."""

    def write(self, wave, rate):
        return f"{len(wave) / rate:.1f} seconds of tones"


@pytest.fixture(scope="module", autouse=True)
def _no_other_voices():
    """The page's examples are tones as well: to compute voices takes ten seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "fsdd", spoken)
        yield


@pytest.fixture(scope="module")
def address():
    """A real server on a free port of this computer, whose network has learned tones."""
    with serving(page.create_app(trained_listener(), Parrot())) as address:
        yield address


@pytest.fixture(scope="module")
def client(address):
    with httpx.Client(base_url=address, timeout=30) as client:
        yield client


def stereo(wave: torch.Tensor, rate: int, bytes_each: int = 2) -> bytes:
    """A WAV file of two channels, the second one silent, of 8, 16 or 24 bits."""
    whole = (wave * (2 ** (8 * bytes_each - 1) - 1)).round().int().tolist()
    pack = {1: lambda v: struct.pack("B", v + 128), 2: lambda v: struct.pack("<h", v), 3: lambda v: struct.pack("<i", v << 8)[1:]}
    silent = pack[bytes_each](0)
    file = io.BytesIO()
    with wave_files.open(file, "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(bytes_each)
        out.setframerate(rate)
        out.writeframes(b"".join(pack[bytes_each](value) + silent for value in whole))
    return file.getvalue()


def heard(answer: dict) -> list[int]:
    return [each["digit"] for each in answer["digits"]]


class TestAnswers:
    def test_digits_and_moments(self, client):
        answer = client.post("/hear", content=wav_bytes(sentence(SAID), RATE)).json()
        assert heard(answer) == SAID
        starts = [each["start"] for each in answer["digits"]]
        assert starts == sorted(starts) and 0.3 < starts[0] < 0.8 and starts[-1] < answer["seconds"]
        assert all(each["start"] < each["end"] and 0 < each["probability"] <= 1 for each in answer["digits"])

    def test_picture_and_wave_are_as_long_as_the_sound(self, client):
        answer = client.post("/hear", content=wav_bytes(sentence(SAID), RATE)).json()
        picture, outline = (base64.b64decode(answer[name]) for name in ("picture", "wave"))
        assert len(picture) == answer["bands"] * answer["frames"] and answer["bands"] == 40
        assert abs(answer["frames"] - 100 * answer["seconds"]) < 3 and abs(len(outline) - answer["frames"]) < 3
        assert max(picture) > 100 and max(outline) > 100 and min(outline) < 10

    @pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
    @pytest.mark.parametrize("kind", ["mono", "stereo", "8 bits", "24 bits"])
    def test_every_kind_of_wav(self, client, rate, kind):
        wave = resampled(sentence(SAID[:3]), RATE, rate)
        bytes_each = {"8 bits": 1, "24 bits": 3}.get(kind, 2)
        content = wav_bytes(wave, rate) if kind == "mono" else stereo(wave, rate, bytes_each)
        assert heard(client.post("/hear", content=content).json()) == SAID[:3]

    def test_silence_is_an_error_in_a_file_and_none_in_the_microphone(self, client):
        silent = wav_bytes(torch.zeros(2 * RATE), RATE)
        assert client.post("/hear", content=silent).json()["kind"] == "silence"
        live = client.post("/hear?live", content=silent).json()
        assert live["digits"] == [] and live["seconds"] == 2

    def test_whisper_writes_along_where_it_is(self, client):
        answer = client.post("/write", content=wav_bytes(sentence(SAID), RATE)).json()
        assert re.fullmatch(r"\d\.\d seconds of tones", answer["text"]) and answer["took"] >= 0
        with serving(page.create_app(trained_listener(), None)) as address:
            assert httpx.get(f"{address}/health").json()["whisper"] is False
            response = httpx.post(f"{address}/write", content=wav_bytes(sentence(SAID), RATE))
            assert response.status_code == 422 and response.json()["kind"] == "no_whisper"

    def test_health_says_what_it_learned_from(self, client):
        told = client.get("/health").json()
        assert told["source"] == "computed voices: tones" and told["whisper"] is True

    def test_examples_are_test_strings_of_what_it_learned_from(self):
        examples = page.pick_examples("computed voices: tones")
        assert len(examples) == page.EXAMPLES and all(3 <= len(example["digits"]) <= 7 for example in examples)
        assert base64.b64decode(examples[0]["sound"])[:4] == b"RIFF"
        assert page.pick_examples("something else") == []

    def test_page_takes_nothing_from_elsewhere(self, client):
        response = client.get("/")
        check_takes_nothing_from_elsewhere(response)
        assert "'self'" in re.search("script-src ([^;]*);", response.headers["content-security-policy"])[1]
        worklet = client.get("/microphone.js")
        assert worklet.headers["content-type"].startswith("text/javascript") and "registerProcessor" in worklet.text

    def test_other_pages_load_no_scripts(self):
        assert "'self'" not in re.search("script-src ([^;]*);", web.content_security_policy("<script>1</script>"))[1]

    def test_both_languages_say_the_same(self):
        check_both_languages_say_the_same(page.PAGE, more_than=45)


class TestLimits:
    @pytest.mark.parametrize(
        ("content", "status", "kind"),
        [
            (b"", 415, "unreadable"),
            (b"Dear Sir or Madam", 415, "unreadable"),
            (b"ID3\x04" + bytes(500), 415, "unreadable"),
            (wav_bytes(sentence(SAID), RATE)[:3000], 422, "damaged"),
            (wav_bytes(sentence(SAID), RATE)[:30], 422, "damaged"),
            (wav_bytes(torch.zeros(0), RATE), 422, "silence"),
            (wav_bytes(0.1 * torch.ones(200) * torch.tensor([1.0, -1.0]).repeat(100), RATE), 422, "too_short"),
            (wav_bytes(torch.rand(61 * RATE), RATE), 422, "too_long"),
            (wav_bytes(torch.zeros(10), RATE)[:40] + struct.pack("<I", 2 * RATE * 3600), 422, "too_long"),
            (b"x" * (page.MOST_BYTES + 1), 413, "too_large"),
        ],
        ids=["empty", "text", "MP3", "cut off", "half a header", "no samples", "12 ms", "61 s", "says an hour", "too many bytes"],
    )
    def test_one_sentence_for_each(self, client, content, status, kind):
        response = client.post("/hear", content=content)
        check_refused(response, status, kind)
        assert heard(client.post("/hear", content=wav_bytes(sentence(SAID), RATE)).json()) == SAID  # and it goes on

    def test_only_this_computers_names(self, client):
        check_only_this_computers_names(client)

    def test_too_many_are_told(self, monkeypatch):
        listening, go_on = threading.Event(), threading.Event()

        def slowly(listener, is_live, content):
            listening.set()
            assert go_on.wait(20)
            return {"heard": len(content)}

        monkeypatch.setattr(page, "answer", slowly)
        monkeypatch.setattr(page, "MOST_WAITING", 0)
        with serving(page.create_app(trained_listener(), None)) as address, ThreadPoolExecutor() as pool:
            first = pool.submit(httpx.post, f"{address}/hear", content=b"1234", timeout=60)
            assert listening.wait(20)
            second = httpx.post(f"{address}/hear", content=b"12", timeout=60)
            go_on.set()
            assert first.result().json() == {"heard": 4}
        assert second.status_code == 503 and second.json()["kind"] == "busy"

    def test_untrained_is_told(self, tmp_path, monkeypatch):
        monkeypatch.setenv("STUDY_WORK_DIR", str(tmp_path))
        with pytest.raises(LessonError, match="no trained network yet"):
            page.main(port=0)

    def test_main_serves(self, tmp_path, monkeypatch, capsys):
        save_network(tmp_path / "m.pt", trained_listener().model, source="tones", word_error_rate=0.1)
        monkeypatch.setattr(page, "load_transcriber", lambda device: None)
        monkeypatch.setattr(web, "serve", lambda app, listening, host: print("serves", app.title))
        page.main(port=0, model=tmp_path / "m.pt", device="cpu")
        told = capsys.readouterr().out
        assert "serves Digits" in told and "not installed" in told and "http://localhost:" in told


# ------------------------------------------------------------------------------------------------------------ a browser
CAMERA_FLAGS = (
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
)


@pytest.fixture(scope="module")
def speaking(launch, tmp_path_factory):
    """A browser whose microphone says SAID, waits three seconds, and says it again."""
    file = tmp_path_factory.mktemp("sound") / "said.wav"
    wave = sentence(SAID, before=1.5, after=3.0)
    file.write_bytes(wav_bytes(resampled(wave, RATE, 48_000), 48_000))
    return launch(*CAMERA_FLAGS, f"--use-file-for-fake-audio-capture={file}")


@pytest.fixture
def tab(request, address):
    """A page in the browser that the test asks for, which must not have complained in the end."""
    started = request.getfixturevalue(getattr(request, "param", "browser"))
    tab = started.new_page(viewport={"width": 1180, "height": 900})
    problems = []
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("console", lambda message: problems.append(message.text) if "Content Security" in message.text else None)
    tab.goto(f"{address}/?lang=en")
    until(tab, "document.getElementById('trained').textContent !== ''")
    yield tab
    tab.close()
    assert not problems, problems


NOW = "[...document.querySelectorAll('#now span:not(.none)')].map((cell) => cell.firstChild.textContent).join(' ')"
PHRASES = "[...document.querySelectorAll('#phrases b')].map((each) => each.textContent)"


def patiently(tab, expression: str) -> None:
    """As `until`, for what takes as long as it takes to say it, on a machine that may have other things to do."""
    for _ in range(600):
        if tab.evaluate(expression):
            return
        tab.wait_for_timeout(100)
    pytest.fail(f"never came true: {expression}; heard {tab.inner_text('#now')!r}")


def upload(tab, name: str, content: bytes) -> None:
    tab.set_input_files("#file", {"name": name, "mimeType": "audio/wav", "buffer": content})


class TestMicrophone:
    @pytest.mark.parametrize("tab", ["speaking"], indirect=True)
    def test_hears_what_the_microphone_says(self, tab):
        said = " ".join(map(str, SAID))
        tab.click("#microphone")
        patiently(tab, f"{PHRASES}.includes('{said}')")
        assert tab.inner_text("#state") == "Listening" and tab.is_hidden("#problem")
        patiently(tab, "document.querySelector('#phrases .written').textContent.includes('seconds of tones')")
        assert tab.evaluate("shown.columns.filter(Boolean).length") > 100
        assert tab.evaluate("Math.max(...shown.wave)") > 0.05
        tab.click("#microphone")
        assert tab.inner_text("#microphone") == "Start the microphone" and tab.inner_text("#state") == "Nothing to hear yet"

    def test_refused_absent_taken(self, tab):
        for name, words in (
            ("NotAllowedError", "refused"),
            ("NotFoundError", "no microphone"),
            ("NotReadableError", "does not start"),
        ):
            refusal = f"async () => {{ throw new DOMException('', '{name}'); }}"
            tab.evaluate(f"() => {{ navigator.mediaDevices.getUserMedia = {refusal}; }}")
            tab.click("#microphone")
            until(tab, f"document.getElementById('problem').textContent.includes('{words}')")
            assert tab.inner_text("#microphone") == "Start the microphone"

    @pytest.mark.parametrize("tab", ["speaking"], indirect=True)
    def test_silent_microphone_and_one_that_ends(self, tab):
        tab.evaluate("""() => {
            const context = new AudioContext();
            window.silent = context.createMediaStreamDestination();
            const gain = context.createGain();
            gain.gain.value = 0;
            const tone = context.createOscillator();
            tone.connect(gain).connect(window.silent);
            tone.start();
            navigator.mediaDevices.getUserMedia = async () => window.silent.stream;
        }""")
        tab.click("#microphone")
        patiently(tab, "document.getElementById('problem').textContent.includes('only silence')")
        tab.evaluate("source.stream.getTracks()[0].dispatchEvent(new Event('ended'))")
        assert "stopped" in tab.inner_text("#problem") and tab.inner_text("#microphone") == "Start the microphone"


class TestRecordings:
    def test_digits_of_a_file(self, tab):
        upload(tab, "said.wav", wav_bytes(sentence(SAID), RATE))
        until(tab, f"{NOW} === '7 3 0 5'")
        assert "A recording of" in tab.inner_text("#state")
        assert "7 3 0 5" in tab.get_attribute("#timeline", "aria-label")

    def test_examples_can_be_clicked(self, tab):
        sound = base64.b64encode(wav_bytes(sentence([2, 4]), RATE)).decode()
        tab.route("**/examples", lambda route: route.fulfill(json=[{"digits": [2, 4], "sound": sound}]))
        tab.reload()  # not showExamples(): the page's own examples would replace these where the server is slow
        until(tab, "document.querySelector('#buttons button')?.textContent === '2 4'")
        tab.click("#buttons button")
        until(tab, f"{NOW} === '2 4'")

    def test_one_sentence_for_each(self, tab):
        for content, told in (
            (b"Dear Sir or Madam", "not a recording"),
            (wav_bytes(torch.zeros(RATE), RATE), "only silence"),
            (wav_bytes(sentence(SAID), RATE)[:3000], "cut off"),
            (wav_bytes(torch.rand(61 * RATE), RATE), "one minute"),
        ):
            upload(tab, "said.wav", content)
            until(tab, f"document.getElementById('problem').textContent.includes('{told}')")
            assert tab.is_visible("#problem")
            upload(tab, "said.wav", wav_bytes(sentence(SAID), RATE))
            until(tab, f"document.getElementById('problem').hidden && {NOW} === '7 3 0 5'")

    def test_keyboard_reaches_everything(self, tab):
        reached = []
        for _ in range(4):
            tab.keyboard.press("Tab")
            reached.append(tab.evaluate("document.activeElement.id"))
        assert reached[:2] == ["microphone", "file"]

    def test_server_away_and_back(self, browser):
        tab = browser.new_page()
        with serving(page.create_app(trained_listener(), None)) as address:
            port = int(address.rsplit(":", 1)[1])
            tab.goto(f"{address}/?lang=en")
            until(tab, "document.getElementById('trained').textContent !== ''")
        upload(tab, "said.wav", wav_bytes(sentence(SAID), RATE))
        until(tab, "document.getElementById('problem').textContent.includes('does not answer')")
        with serving(page.create_app(trained_listener(), None), port):
            upload(tab, "said.wav", wav_bytes(sentence(SAID), RATE))
            until(tab, f"{NOW} === '7 3 0 5'")
            assert tab.is_hidden("#problem")
        tab.close()

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_on_a_telephone_nothing_is_cut(self, browser, address, scheme):
        tab = browser.new_page(viewport={"width": 360, "height": 740}, color_scheme=scheme)
        tab.goto(f"{address}/?lang=ko")
        upload(tab, "said.wav", wav_bytes(sentence(SAID), RATE))
        until(tab, f"{NOW} === '7 3 0 5'")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 360
        assert "지금 들은 것" in tab.inner_text("main")
        tab.close()


def test_clips_of_the_world_are_what_the_page_hears():
    assert clips(0).rate == page.RATE == RATE
