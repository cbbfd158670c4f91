"""utils.sound: every usual kind of WAV file is read, what cannot be used is one sentence, and no file is changed."""

import io
import struct
import tracemalloc

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from utils.lesson import LessonError
from utils.sound import check_heard, duration, read_speech, read_wav, resampled, wav_bytes, write_wav

RATE = 8000
TONE = torch.sin(2 * torch.pi * 440 * torch.arange(RATE) / RATE) / 2  # a second


def wav(content: bytes, kind: int = 1, channels: int = 1, rate: int = RATE, bits: int = 16, size: int | None = None) -> bytes:
    """A WAV file by hand; `size` is what it says of the length of `content`."""
    frame = channels * bits // 8
    header = struct.pack("<4sIHHIIHH", b"fmt ", 16, kind, channels, rate, rate * frame, frame, bits)
    data = struct.pack("<4sI", b"data", len(content) if size is None else size) + content
    return struct.pack("<4sI4s", b"RIFF", 4 + len(header) + len(data), b"WAVE") + header + data


def said_of(content: bytes, **settings) -> str:
    """The sentence about a file that cannot be read."""
    with pytest.raises(LessonError) as error:
        read_wav(content, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


class TestKinds:
    @pytest.mark.parametrize(
        ("convert", "tolerance"),
        [
            (lambda wave: ((wave + 1) * 127.5).round().astype(np.uint8), 1 / 100),
            (lambda wave: (wave * 32767).astype(np.int16), 1e-4),
            (lambda wave: (wave * (2**31 - 256)).astype(np.int32), 1e-6),
            (lambda wave: wave.astype(np.float32), 1e-6),
            (lambda wave: wave.astype(np.float64), 1e-6),
        ],
    )
    def test_what_scipy_writes(self, convert, tolerance, tmp_path):
        wavfile.write(tmp_path / "tone.wav", 44_100, convert(TONE.double().numpy()))
        wave, rate = read_wav(tmp_path / "tone.wav")
        assert rate == 44_100 and wave.shape == (RATE,) and wave.dtype == torch.float32
        assert (wave - TONE).abs().max() < tolerance

    def test_24_bits_and_extensible(self):
        numbers = (TONE.double().numpy() * (2**23 - 1)).astype("<i4")
        packed = numbers.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
        assert (read_wav(wav(packed, bits=24))[0] - TONE).abs().max() < 1e-6
        plain = wav((TONE * 32767).short().numpy().tobytes())
        guid = struct.pack("<HIH", 22, 0, 1)[:2] + struct.pack("<HI", 16, 4) + struct.pack("<H", 1) + bytes(14)
        extensible = plain[:16] + struct.pack("<I", 40) + struct.pack("<H", 0xFFFE) + plain[22:36] + guid + plain[36:]
        assert (read_wav(extensible)[0] - TONE).abs().max() < 1e-4

    def test_stereo_becomes_its_mean(self):
        both = torch.stack([TONE, torch.zeros(RATE)], dim=1)
        content = (both * 32767).short().numpy().tobytes()
        assert (read_wav(wav(content, channels=2))[0] - TONE / 2).abs().max() < 1e-4

    def test_other_chunks_are_passed_over(self):
        plain = wav_bytes(TONE, RATE)
        odd = struct.pack("<4sI", b"LIST", 3) + b"abc\0"  # three bytes, and one to come to an even place
        wave, _ = read_wav(plain[:36] + odd + plain[36:] + odd)
        assert (wave - TONE).abs().max() < 1e-4

    @pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
    def test_a_stream_that_did_not_know_its_length(self, size):
        content = (TONE * 32767).short().numpy().tobytes()
        assert len(read_wav(wav(content + b"\1", size=size))[0]) == RATE  # and half a sample is no sample

    def test_from_a_path_bytes_or_a_file(self, tmp_path):
        write_wav(tmp_path / "tone.wav", 3 * TONE, RATE)  # beyond 1 it is cut
        content = (tmp_path / "tone.wav").read_bytes()
        for source in (tmp_path / "tone.wav", str(tmp_path / "tone.wav"), content, io.BytesIO(content)):
            wave, rate = read_wav(source)
            assert rate == RATE and wave.max() == pytest.approx(1, abs=1e-4) and wave.min() == pytest.approx(-1, abs=1e-4)


class TestWhatCannotBeUsed:
    def test_one_sentence_for_each(self, tmp_path):
        plain = wav_bytes(TONE, RATE)
        assert said_of(b"") == "the recording is empty"
        assert "is not a WAV file; `ffmpeg -i" in said_of(b"ID3\x04" + bytes(100))
        assert "is not a WAV file" in said_of(b"seven")
        assert "ends before the first sample" in said_of(plain[:30])
        assert "ends before the first sample" in said_of(plain[:42])
        assert "its last 0.50 of 1.00 seconds are missing" in said_of(plain[: 44 + RATE])
        assert "holds no sound" in said_of(wav(b""))
        assert "(format 7, 8 bits)" in said_of(wav(bytes(80), kind=7, bits=8))
        assert "has no channel" in said_of(wav(bytes(80), channels=0))
        assert "says 10 samples a second" in said_of(wav(bytes(80), rate=10))
        assert "does not say how its samples are stored" in said_of(plain[:12] + plain[36:])
        assert "some of its samples are no numbers" in said_of(wav(np.float32([0, np.nan]).tobytes(), kind=3, bits=32))
        with pytest.raises(LessonError, match="is not there"):
            read_wav(tmp_path / "none.wav")
        with pytest.raises(LessonError, match="is a folder|permission"):
            read_wav(tmp_path)

    def test_an_hour_is_refused_before_it_is_read(self, tmp_path):
        path = tmp_path / "hour.wav"
        with open(path, "wb") as file:
            file.write(wav(b"", channels=2, rate=44_100, size=635_040_000))
            file.truncate(44 + 635_040_000)  # no disk is used: the system keeps it as a hole
        tracemalloc.start()
        with pytest.raises(LessonError, match="hour.wav is 60 minutes long; at most 10 minutes are read"):
            read_wav(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
        tracemalloc.stop()

    def test_silence_is_told(self):
        for silent in (torch.zeros(100), torch.full((100,), 0.3), torch.zeros(0), torch.rand(100) * 1e-4):
            with pytest.raises(LessonError, match="the recording is silent .*is the microphone switched on"):
                check_heard(silent)
        check_heard(0.01 * TONE)
        with pytest.raises(LessonError, match="silent"):
            read_speech(wav_bytes(torch.zeros(RATE), RATE))


class TestResampling:
    def test_a_tone_stays_where_it_is(self):
        tone = torch.sin(2 * torch.pi * 440 * torch.arange(44_100) / 44_100) / 2
        wave = resampled(tone, 44_100, RATE)
        assert len(wave) == RATE and (wave - TONE)[100:-100].abs().max() < 0.01
        assert read_speech(wav_bytes(tone, 44_100), rate=RATE).shape == (RATE,)
        assert resampled(TONE, RATE, RATE) is TONE

    def test_what_the_new_rate_cannot_hold_is_taken_away(self):
        tone = torch.sin(2 * torch.pi * 5000 * torch.arange(16_000) / 16_000)
        assert resampled(tone, 16_000, RATE)[200:-200].abs().max() < 0.02 and tone[::2].abs().max() > 0.9

    def test_odd_rates_need_no_large_filter(self):
        wave = resampled(torch.randn(11_127), 11_127, RATE)
        assert abs(len(wave) - RATE) < 0.003 * RATE

    @pytest.mark.parametrize("rate", [0, -8000, 10**7])
    def test_impossible_rates(self, rate):
        with pytest.raises(LessonError, match="samples a second"):
            resampled(TONE, rate, RATE)


def test_durations_as_people_say_them():
    assert [duration(seconds) for seconds in (0.43, 12.2, 3600)] == ["0.43 seconds", "12 seconds", "60 minutes"]
