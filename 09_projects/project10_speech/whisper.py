"""Project 10 · (c) Whisper · 위스퍼로 받아쓰기

Half a minute of English into text, by weights that OpenAI published (tiny.en), in a network of our own; and how well a network
that was never taught digits in a row hears them, beside ours that was.
영어 음성을 글로 옮긴다. OpenAI가 공개한 가중치(tiny.en)를 직접 만든 신경망에 넣고, 숫자열을 따로 배운 적 없는 신경망이
숫자열을 얼마나 잘 듣는지 이 프로젝트의 신경망과 비교한다.

Run        python -m study run speech/whisper                     (strings of digits: about a second for each)
           python -m study run speech/whisper talk.wav            (any recording, in English)
Needs      python -m study setup --extra models                   (75 MB; without it this says so and ends)
Try next   --strings 10 --source sample: first guess how much it understands of a voice that is computed
Source     Radford et al., 2022, https://arxiv.org/abs/2212.04356
"""

import json
import re
import time
from pathlib import Path

import torch
import tyro
from torch import Tensor

from project10_speech import ctranslate2, word_errors
from project10_speech.digit_strings import APART, TOGETHER, Strings, make_strings
from project10_speech.whisper_network import RATE, SECONDS, Whisper, WhisperConfig, renamed
from utils import paths
from utils.byte_bpe import ByteBPE
from utils.datasets import Source
from utils.datasets.formant_voices import DIGITS
from utils.datasets.speech import fsdd
from utils.device import pick_device
from utils.lesson import LessonError, check, mention, run
from utils.sound import check_heard, read_wav, resampled
from utils.weights import WHISPER_TINY_EN

MISSING = "Whisper's weights are not installed: `python -m study setup --extra models` gets them (75 MB); the rest goes without"
WORDS = {word: digit for digit, word in enumerate(DIGITS["en"])} | {"oh": 0, "o": 0}
# A language model knows which one is meant; out of context nobody does.
SOUND_ALIKES = {"to": 2, "too": 2, "for": 4, "ate": 8, "won": 1}


class Transcriber:
    """Whisper with its tokens."""

    def __init__(self, model: Whisper, tokens: ByteBPE, never: list[int], not_first: list[int]):
        """Keep them.

        Args:
            model: In eval mode.
            tokens: Its vocabulary.
            never: Tokens that are not written: signs for music, noise, speakers.
            not_first: Tokens that are not written first.
        """
        self.model, self.tokens, self.not_first = model, tokens, not_first
        self.stop = tokens.special["<|endoftext|>"]
        self.prompt = [tokens.special["<|startoftranscript|>"], tokens.special["<|notimestamps|>"]]
        # What stands behind the named tokens in the vocabulary are moments (<|0.00|>, <|0.02|>, ...), which were not asked for.
        self.never = sorted({*never, *tokens.special.values(), *range(len(tokens), model.config.vocab_size)} - {self.stop})

    def write(self, wave: Tensor, rate: int) -> str:
        """What is said in a wave (n,) of any rate and length; half a minute at a time, cut where it is quietest."""
        wave = resampled(wave, rate, RATE)
        texts = []
        for piece in cut_quietly(wave):
            written, _ = self.model.write(piece, self.prompt, self.stop, self.never, self.not_first)
            texts.append(self.tokens.decode(written).strip())
        return " ".join(texts)


def cut_quietly(wave: Tensor, longest: int = RATE * SECONDS, look: int = 5 * RATE) -> list[Tensor]:
    """Pieces of at most half a minute; each cut is at the quietest tenth of a second of the last five before it must be."""
    pieces = []
    while len(wave) > longest:
        tenth = RATE // 10
        loudness = wave[longest - look : longest].view(-1, tenth).square().sum(dim=1)
        place = longest - look + int(loudness.argmin()) * tenth + tenth // 2
        pieces.append(wave[:place])
        wave = wave[place:]
    return [*pieces, wave]


def load_transcriber(device: torch.device | str = "cpu") -> Transcriber | None:
    """Whisper tiny.en from its package; None where that is not installed.

    Raises:
        LessonError: The package's files are not what they should be.
    """
    file = WHISPER_TINY_EN.find()
    if file is None:
        return None
    model = Whisper(WhisperConfig())
    weights = renamed(ctranslate2.read(file, "WhisperSpec"))
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise LessonError(f"{paths.short(file)} is another Whisper than tiny.en: {str(error).splitlines()[-1].strip()}") from None
    tokens, settings = read_tokens(file.with_name("tokenizer.json")), read_json(file.with_name("config.json"))
    never, not_first = settings.get("suppress_ids"), settings.get("suppress_ids_begin")
    for ids in (never, not_first):
        is_list = isinstance(ids, list) and all(isinstance(number, int) and 0 <= number < len(tokens) for number in ids)
        check(is_list, f"{paths.short(file.with_name('config.json'))} does not say which tokens are not written")
    return Transcriber(model.eval().to(device), tokens, never, not_first)


def read_tokens(path: Path) -> ByteBPE:
    """The vocabulary in Whisper's tokenizer.json: bytes joined as GPT-2 does, and special tokens behind."""
    content = read_json(path)
    try:
        model = content["model"]
        special = {token["content"]: token["id"] for token in content["added_tokens"]}
        return ByteBPE(model["vocab"] | special, [tuple(merge.split(" ")) for merge in model["merges"]], special)
    except (KeyError, TypeError, AttributeError) as error:
        raise LessonError(f"{paths.short(path)} is not Whisper's tokenizer.json: {type(error).__name__}, {error}") from None


def read_json(path: Path) -> dict:
    """A JSON file with an object in it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LessonError(f"{paths.short(path)} cannot be read: {error}") from None
    check(isinstance(content, dict), f"{paths.short(path)} holds no object")
    return content


def digits_in(text: str) -> list[int | str]:
    """What was written, as digits: figures one by one, words of digits; any other word stays, and counts as wrong."""
    found: list[int | str] = []
    for word in re.findall(r"\d+|[^\W\d_]+", text.lower()):
        if word.isdigit():
            found += [int(figure) for figure in word]
        else:
            found.append(WORDS.get(word, SOUND_ALIKES.get(word, word)))
    return found


def transcribe_strings(transcriber: Transcriber, strings: Strings, manner: str) -> dict[str, float]:
    """Its word error rate on strings of digits, with a few of its texts printed."""
    texts = [transcriber.write(wave, strings.rate) for wave in strings.waves]
    heard = [digits_in(text) for text in texts]
    print(f"\n{manner}: {word_errors.told(heard, strings.digits)}")
    for text, digits in list(zip(texts, strings.digits, strict=True))[:4]:
        print(f"   said {' '.join(map(str, digits)):15} written {text!r}")
    return {f"word_error_rate_{manner}": word_errors.word_error_rate(heard, strings.digits)}


def main(
    recordings: tyro.conf.Positional[tuple[Path, ...]] = (),
    source: Source = "auto",
    strings: int = 20,
    seed: int = 2,
    device: str = "auto",
) -> dict[str, float]:
    """Write down what is said in recordings, or in strings of digits.

    Args:
        recordings: WAV files in English; without any, strings of digits are transcribed and errors counted.
        source: Of the digits: "auto" (the Free Spoken Digit Dataset if it is there, else computed voices), "real" or "sample".
        strings: How many, with pauses, and as many without.
        seed: Of the strings; 2 are the first of the strings that speech/strings tests on.
        device: "auto", "cpu", "cuda" or "mps".
    """
    check(strings > 0, "--strings must be above 0")
    sounds = [read_wav(recording) for recording in recordings]
    where = pick_device(device)
    transcriber = load_transcriber(where)
    if transcriber is None:
        print(MISSING)
        return {}
    mention("data", f"{WHISPER_TINY_EN.title} ({WHISPER_TINY_EN.package_name()})")
    started = time.perf_counter()
    if sounds:
        for recording, (wave, rate) in zip(recordings, sounds, strict=True):
            check_heard(wave, paths.short(recording))
            print(f"{recording.name}: {transcriber.write(wave, rate)}")
        of_sound = sum(len(wave) / rate for wave, rate in sounds)
        return {"seconds_of_sound": of_sound, "seconds": time.perf_counter() - started}
    clips = fsdd(source)
    results = {}
    for manner, how in (("apart", APART), ("together", TOGETHER)):
        results |= transcribe_strings(transcriber, make_strings(clips.test, strings, how, seed), manner)
    return {**results, "seconds_per_string": (time.perf_counter() - started) / (2 * strings)}


if __name__ == "__main__":
    run(main)
