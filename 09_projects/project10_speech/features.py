"""From the wave to what a network sees: STFT, mel bands, log-mel, MFCC; and how recordings are varied. Each as a picture.

Everything is computed here from its definition and compared with torchaudio; LogMel is what the networks of this project use.
스펙트로그램, 멜 필터 뱅크, MFCC를 정의대로 직접 계산해 torchaudio와 비교하고, 데이터 증강까지 그림으로 본다.

Run        python -m study run speech/features [--wav seven.wav]
"""

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from utils.datasets.formant_voices import make_voice, say
from utils.lesson import check, mention, run
from utils.plotting import label, save_figure
from utils.sound import read_speech, resampled

SMALLEST = 1e-5  # energies below this are silence: a logarithm needs a floor


# %% Spectrum, moment by moment
def stft(wave: Tensor, size: int, hop: int, window: Tensor) -> Tensor:
    """Short-time Fourier transform: which frequencies are there, at every moment.

    Args:
        wave: (batch, n), n > size // 2.
        size: Samples of a piece; the spectrum has size // 2 + 1 frequencies.
        hop: Samples from one piece to the next.
        window: (w,) with w <= size: fades each piece in and out, or its hard edges would sound at every frequency.

    Returns:
        (batch, size // 2 + 1, n // hop + 1) complex; the piece with number t has its middle at sample t * hop.
    """
    fade = nn.functional.pad(window, ((size - len(window)) // 2, -((len(window) - size) // 2)))
    around = nn.functional.pad(wave.unsqueeze(1), (size // 2, size // 2), mode="reflect").squeeze(1)
    pieces = around.unfold(1, size, hop)  # (batch, frames, size): a view, nothing is copied
    return torch.fft.rfft(pieces * fade).transpose(1, 2)


def fourier_by_hand(piece: Tensor) -> Tensor:
    """The Fourier transform (size,) → (size // 2 + 1,) from its definition: how much of each wave is in the piece.

    size² multiplications; torch.fft.rfft gets by with size * log(size).
    """
    size = len(piece)
    times, frequencies = torch.arange(size, dtype=torch.float64), torch.arange(size // 2 + 1, dtype=torch.float64)
    waves = torch.exp(-2j * math.pi * frequencies[:, None] * times / size)  # (frequencies, size): round and round
    return waves @ piece.to(waves.dtype)


# %% Bands as wide as ears have them
def hz_to_mel(hz: Tensor) -> Tensor:
    """The pitch that is heard (O'Shaughnessy, 1987): in step with the frequency below 1,000 Hz, with its logarithm above."""
    return 2595 * torch.log10(1 + hz / 700)


def mel_to_hz(mel: Tensor) -> Tensor:
    """The way back."""
    return 700 * (10 ** (mel / 2595) - 1)


def mel_filters(rate: int, bands: int, size: int, lowest: float = 0.0) -> Tensor:
    """Triangles over the frequencies of an STFT, (bands, size // 2 + 1), equally far apart in mel.

    Each begins where the one before has its top, and ends where the next one has its own.
    """
    frequencies = torch.linspace(0, rate / 2, size // 2 + 1, dtype=torch.float64)
    ends = hz_to_mel(torch.tensor([lowest, rate / 2], dtype=torch.float64))
    corners = mel_to_hz(torch.linspace(*ends.tolist(), bands + 2, dtype=torch.float64))
    below, top, above = (corners[first : first + bands, None] for first in range(3))
    rising, falling = (frequencies - below) / (top - below), (above - frequencies) / (above - top)
    return torch.minimum(rising, falling).clamp_min(0).float()


class LogMel(nn.Module):
    """Waves to logarithms of energies in mel bands: (batch, n) → (batch, bands, frames), frames = n // hop + 1.

    A module, so that its window and filters move to the device with the network, and the features are computed there.
    """

    def __init__(self, rate: int = 8000, bands: int = 40, window: float = 0.025, hop: float = 0.010):
        """Prepare the window and the filters.

        Args:
            rate: Of the waves, in samples a second.
            bands: How many there are.
            window: Seconds of a piece: two or three pulses of the voice.
            hop: Seconds from one piece to the next.

        Raises:
            LessonError: So many bands that some would hold no frequency at all.
        """
        super().__init__()
        self.hop = round(hop * rate)
        length = round(window * rate)
        self.size = 2 ** math.ceil(math.log2(length))  # a power of two, the rest of it zeros
        filters = mel_filters(rate, bands, self.size)
        check(bool((filters.sum(dim=1) > 0).all()), f"{bands} bands are too many for a window of {window} s at {rate} Hz")
        self.register_buffer("fade", torch.hann_window(length), persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """Natural logarithms of energies: (batch, n) → (batch, bands, frames)."""
        power = stft(wave, self.size, self.hop, self.fade).abs().square()  # (batch, frequencies, frames)
        return (self.filters @ power).clamp_min(SMALLEST).log()

    def frames(self, samples: Tensor | int) -> Tensor | int:
        """How many frames there are of so many samples."""
        return samples // self.hop + 1


def mfcc(log_mel: Tensor, count: int = 13) -> Tensor:
    """Mel-frequency cepstral coefficients (Davis and Mermelstein, 1980): (batch, bands, frames) → (batch, count, frames).

    A cosine transform (DCT-II, orthonormal) along the bands: the first coefficients are the shape of the spectrum, the mouth;
    the pitch, a fine comb in it, would be in later ones, which are left out. Neighbouring bands say nearly the same,
    coefficients do not: models before deep networks needed that. A CNN does not, and prefers the picture that they are made of.
    """
    bands = log_mel.shape[1]
    places = (torch.arange(bands, dtype=torch.float64) + 0.5) * math.pi / bands
    cosines = torch.cos(torch.arange(count, dtype=torch.float64)[:, None] * places) * math.sqrt(2 / bands)
    cosines[0] /= math.sqrt(2)
    return cosines.to(log_mel) @ log_mel


# %% The same word, otherwise
def add_noise(wave: Tensor, noise: Tensor, decibels: Tensor) -> Tensor:
    """Mix noise in, so that the wave has this much more energy than it (SNR).

    Args:
        wave: (batch, n)
        noise: (batch, n), of any loudness.
        decibels: (batch,) 20: a hundred times the energy; 0: as much.
    """
    energies = wave.square().mean(dim=1), noise.square().mean(dim=1).clamp_min(1e-12)
    factor = (energies[0] / energies[1] / 10 ** (decibels / 10)).sqrt()
    return wave + factor[:, None] * noise


def change_speed(wave: Tensor, rate: int, factor: float) -> Tensor:
    """Play faster (factor > 1) or slower, as a record does: the pitch and all formants go up and down with it (Ko et al., 2015).

    (n,) → (about n / factor,). In steps of 1/40, or the resampling filter would become large.
    """
    step = round(rate / 40)
    return resampled(wave, step * round(40 * factor), step * 40)


def spec_augment(
    features: Tensor, generator: torch.Generator | None = None, bands: int = 8, frames: int = 12, masks: int = 1
) -> Tensor:
    """Hide bands and moments, so that no single one is relied on (Park et al., 2019). Returns new features.

    Args:
        features: (batch, bands, frames), about 0 in the mean: what is hidden becomes 0.
        generator: On the CPU; None is the global one, which a resumed run restores.
        bands: A mask hides up to so many neighbouring bands.
        frames: Or up to so many neighbouring frames.
        masks: Of each kind.
    """
    hidden = torch.zeros(features.shape, dtype=torch.bool, device=features.device)
    for dim, most in ((1, bands), (2, frames)):
        size = features.shape[dim]
        for _ in range(masks):
            width = torch.randint(0, most + 1, (len(features), 1), generator=generator)
            start = (torch.rand(len(features), 1, generator=generator) * (size - width).clamp_min(0)).long()
            places = torch.arange(size)
            mask = ((places >= start) & (places < start + width)).to(features.device)  # (batch, size)
            hidden |= mask.unsqueeze(3 - dim)
    return features.masked_fill(hidden, 0.0)


# %% Each as a picture
def draw_steps(wave: Tensor, rate: int, log_mel: LogMel):
    """From the wave (n,) to MFCC, on one axis of time, and the spectrum of a single piece; returns the figure."""
    import matplotlib.pyplot as plt

    seconds = len(wave) / rate
    spectra = stft(wave[None], log_mel.size, log_mel.hop, log_mel.fade)[0].abs().square()
    mel = log_mel(wave[None])[0]
    loudest = spectra.sum(dim=0).argmax().item()  # the piece with the most energy
    start = max(0, loudest * log_mel.hop - len(log_mel.fade) // 2)
    piece = wave[start : start + len(log_mel.fade)]

    figure, axes = plt.subplots(2, 3, figsize=(15, 7.5), layout="constrained")
    axes[0, 0].plot((torch.arange(len(wave)) / rate).numpy(), wave.numpy(), linewidth=0.5)
    axes[0, 0].axvspan(start / rate, (start + len(piece)) / rate, color="tab:orange", alpha=0.5)
    axes[0, 0].set(title=label("The wave", "파형"), xlim=(0, seconds))
    faded = piece * log_mel.fade[: len(piece)]
    ms = (1000 * torch.arange(len(piece)) / rate).numpy()
    axes[0, 1].plot(ms, piece.numpy(), color="silver", label=label("as it is", "그대로"))
    axes[0, 1].plot(ms, faded.numpy(), color="tab:orange", label=label("faded by a window", "윈도 적용"))
    axes[0, 1].set(title=label("One piece of 25 ms", "25 ms 한 조각"), xlabel="ms")
    axes[0, 1].legend()
    hz = torch.linspace(0, rate / 2, log_mel.size // 2 + 1).numpy()
    decibels = 10 * spectra[:, loudest].clamp_min(SMALLEST).log10().numpy()
    ceiling = decibels.max()
    axes[0, 2].plot(hz, decibels, color="tab:orange")
    for triangle in log_mel.filters.numpy():
        axes[0, 2].plot(hz, ceiling - 60 + 20 * triangle, color="tab:green", linewidth=0.5)
    axes[0, 2].set(
        title=label("Its spectrum (dB), and the mel filters", "그 조각의 스펙트럼(dB)과 멜 필터"),
        xlabel="Hz",
        ylim=(ceiling - 60, ceiling + 5),
    )
    pictures = {
        label("Spectrogram (Hz)", "스펙트로그램 (Hz)"): (spectra.clamp_min(SMALLEST).log(), rate / 2),
        label(f"Log-mel: {len(mel)} bands", f"로그 멜: {len(mel)}개 대역"): (mel, len(mel)),
        label("MFCC: 13 coefficients, each scaled", "MFCC: 계수 13개 (계수마다 정규화)"): (_scaled(mfcc(mel[None])[0]), 13),
    }
    for axis, (title, (values, top)) in zip(axes[1], pictures.items(), strict=True):
        extent = (0, seconds, 0, top)
        axis.imshow(values.numpy(), origin="lower", aspect="auto", extent=extent, cmap="magma", interpolation="nearest")
        axis.set(title=title, xlabel=label("seconds", "초"))
    return figure


def _scaled(rows: Tensor) -> Tensor:
    """Rows with mean 0 and deviation 1: the first coefficient, the loudness, would outshine the others."""
    return (rows - rows.mean(dim=1, keepdim=True)) / rows.std(dim=1, keepdim=True).clamp_min(1e-6)


def varied(wave: Tensor, rate: int, log_mel: LogMel, generator: torch.Generator) -> dict[str, Tensor]:
    """Log-mel features (bands, frames) of a wave (n,), as it is and in the ways in which training varies it; by their titles."""
    noise = torch.randn(wave.shape, generator=generator)

    def at(decibels: float) -> Tensor:
        return add_noise(wave[None], noise[None], torch.tensor([decibels]))[0]

    waves = {
        label("as it is", "원본"): wave,
        label("noise, SNR 20 dB", "잡음, SNR 20 dB"): at(20.0),
        label("noise, SNR 5 dB", "잡음, SNR 5 dB"): at(5.0),
        label("speed 0.8: longer and deeper", "속도 0.8: 길고 낮게"): change_speed(wave, rate, 0.8),
        label("speed 1.2: shorter and higher", "속도 1.2: 짧고 높게"): change_speed(wave, rate, 1.2),
    }
    features = {name: log_mel(one[None])[0] for name, one in waves.items()}
    plain = features[label("as it is", "원본")]
    centred = plain - plain.mean()
    features["SpecAugment"] = spec_augment(centred[None], generator)[0] + plain.mean()
    return features


def draw_varied(features: dict[str, Tensor], hop: float):
    """What `varied` returns, on one scale of time (hop: seconds between two frames); returns the figure."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(14, 6.5), layout="constrained", sharex=True)
    low, high = (value.item() for value in next(iter(features.values())).aminmax())
    for axis, (name, values) in zip(axes.flat, features.items(), strict=True):
        extent = (0, values.shape[1] * hop, 0, len(values))
        axis.imshow(
            values.numpy(),
            origin="lower",
            aspect="auto",
            extent=extent,
            cmap="magma",
            vmin=low,
            vmax=high,
            interpolation="nearest",
        )
        axis.set_title(name)
    axes[0, 0].set_xlim(0, max(values.shape[1] for values in features.values()) * hop)
    for axis in axes[1]:
        axis.set_xlabel(label("seconds", "초"))
    return figure


# %% All of it, in order
def compare_with_torchaudio(wave: Tensor, rate: int, log_mel: LogMel) -> dict[str, float]:
    """The largest differences between what is computed here and in torch or torchaudio, relative to the largest value."""
    from torchaudio import transforms

    settings = {"n_fft": log_mel.size, "win_length": len(log_mel.fade), "hop_length": log_mel.hop}
    bands = len(log_mel.filters)
    mine = stft(wave[None], log_mel.size, log_mel.hop, log_mel.fade)
    theirs = torch.stft(wave[None], log_mel.size, log_mel.hop, len(log_mel.fade), log_mel.fade, return_complex=True)
    start = (len(wave) - log_mel.size) // 2
    middle = wave[start : start + log_mel.size]
    mel = log_mel.filters @ mine.abs().square()
    their_mel = transforms.MelSpectrogram(rate, n_mels=bands, **settings)(wave[None])
    their_mfcc = transforms.MFCC(rate, n_mfcc=13, log_mels=True, melkwargs={"n_mels": bands, **settings})(wave[None])

    def difference(one: Tensor, other: Tensor) -> float:
        return ((one - other).abs().max() / other.abs().max().clamp_min(1e-12)).item()  # a piece may be silent

    return {
        "fourier_difference": difference(fourier_by_hand(middle), torch.fft.rfft(middle.double())),
        "stft_difference": difference(mine, theirs),
        "mel_difference": difference(mel, their_mel),
        "mfcc_difference": difference(mfcc((mel + 1e-6).log()), their_mfcc),  # torchaudio adds 1e-6 where LogMel has a floor
    }


def aliasing(high: float = 5000.0) -> dict[str, float]:
    """A tone that 8,000 samples a second cannot hold, brought there from 16,000 in two ways: how loud what remains is, in dB.

    Every other sample makes a tone of 3,000 Hz out of one of 5,000 Hz, as loud as before: nobody ever whistled it.
    """
    tone = torch.sin(2 * math.pi * high * torch.arange(16_000) / 16_000)
    loudness = {"dropped": tone[::2], "resampled": resampled(tone, 16_000, 8_000)[200:-200]}
    return {f"{name}_tone_db": 20 * math.log10(max(one.abs().max().item(), 1e-9)) for name, one in loudness.items()}


def main(wav: Path | None = None, seed: int = 0, figures: bool = True) -> dict[str, float]:
    """Compute every step from a wave to MFCC by hand, compare it with torchaudio, and draw it.

    Args:
        wav: A WAV file of your own; without it, a computed voice says "seven".
        seed: Of the voice and of the variations.
        figures: Draw.
    """
    rate = 8000
    wave = say(["seven"], make_voice(seed), rate, seed) if wav is None else read_speech(wav, rate)
    mention("data", 'a computed voice that says "seven"' if wav is None else str(wav))
    log_mel = LogMel(rate)
    check(len(wave) > log_mel.size, f"a wave of {len(wave)} samples is shorter than a single piece ({log_mel.size})")
    differences = compare_with_torchaudio(wave, rate, log_mel)
    for name, value in differences.items():
        print(f"{name:20} {value:.1e}")
    check(max(differences.values()) < 1e-4, "what is computed here differs from torchaudio")
    tones = aliasing()
    print(
        f"a tone of 5,000 Hz at 8,000 samples a second: {tones['dropped_tone_db']:.0f} dB where every other sample was dropped, "
        f"{tones['resampled_tone_db']:.0f} dB after resampling"
    )
    if figures:
        save_figure(draw_steps(wave, rate, log_mel), __file__, "features")
        features = varied(wave, rate, log_mel, torch.Generator().manual_seed(seed))
        save_figure(draw_varied(features, log_mel.hop / rate), __file__, "variations")
    shape = log_mel(wave[None]).shape
    return {**differences, **tones, "bands": shape[1], "frames": shape[2]}


if __name__ == "__main__":
    run(main)
