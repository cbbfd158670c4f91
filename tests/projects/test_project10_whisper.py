"""Project 10's Whisper: its file is read with distrust, its network is transformers', and it understands."""

import json
import math
import struct

import pytest
import torch
import torch.nn.functional as F
from projects.speech_world import spoken

from project10_speech import ctranslate2, whisper, word_errors
from project10_speech.digit_strings import APART, make_strings
from project10_speech.whisper_network import RATE, SECONDS, Block, Cache, Whisper, WhisperConfig, log_mel, renamed
from utils.byte_bpe import byte_letters
from utils.datasets.speech import fsdd
from utils.lesson import LessonError
from utils.sound import write_wav
from utils.weights import WHISPER_TINY_EN

SMALL = WhisperConfig(vocab_size=60, width=16, layers=2, heads=2, encoder_frames=50, max_tokens=20)
needs_weights = pytest.mark.skipif(WHISPER_TINY_EN.packaged() is None, reason="needs study setup --extra models")


def model_file(tensors: dict[str, torch.Tensor], aliases: dict[str, str], version: int = 6, spec: str = "WhisperSpec") -> bytes:
    """A CTranslate2 file."""

    def name(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    numbers = {dtype: number for number, dtype in ctranslate2.TYPES.items()}
    content = struct.pack("<I", version) + name(spec) + struct.pack("<II", 3, len(tensors))
    for key, tensor in tensors.items():
        data = tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        shape = struct.pack(f"<B{tensor.dim()}I", tensor.dim(), *tensor.shape)
        content += name(key) + shape + struct.pack("<BI", numbers[tensor.dtype], len(data)) + data
    content += struct.pack("<I", len(aliases))
    return content + b"".join(name(alias) + name(key) for alias, key in aliases.items())


TENSORS = {
    "a/weight": torch.arange(6.0).view(2, 3).half(),
    "a/bias": torch.tensor([1.5, -2.0]),
    "b": torch.tensor([[3]], dtype=torch.int8),
    "empty": torch.zeros(0, 4),
}


class TestFile:
    def test_reads_every_type(self, tmp_path):
        (tmp_path / "model.bin").write_bytes(model_file(TENSORS, {"c": "a/weight"}))
        found = ctranslate2.read(tmp_path / "model.bin", "WhisperSpec")
        assert list(found) == [*TENSORS, "c"] and found["c"] is found["a/weight"]
        for name, tensor in TENSORS.items():
            assert torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype

    def test_every_beginning_of_a_file_is_told(self, tmp_path):
        whole = model_file(TENSORS, {"c": "a/weight"})
        for end in range(len(whole)):
            (tmp_path / "model.bin").write_bytes(whole[:end])
            with pytest.raises(LessonError, match="is not a CTranslate2 model that can be read: it ends in the middle of"):
                ctranslate2.read(tmp_path / "model.bin", "WhisperSpec")

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            (model_file(TENSORS, {}, version=9), "version 9, not 6"),
            (model_file(TENSORS, {}, spec="TransformerSpec"), "holds a TransformerSpec, not a WhisperSpec"),
            (model_file(TENSORS, {"c": "nothing"}), "c stands for nothing, which is not there"),
            (model_file(TENSORS, {}) + b"more", "4 bytes are left at its end"),
            (model_file({}, {})[:-8] + struct.pack("<I", 2**31), "claims to hold 2,147,483,648 tensors"),
            (b"\x06\0\0\0\x03\0a\x01b", "the name of its specification is not a name"),
            (b"\x06\0\0\0\xff\xff" + bytes(70_000), "has 65535 letters"),
        ],
        ids=["version", "specification", "alias", "too long", "a bomb", "letters", "a long name"],
    )
    def test_what_cannot_be_is_told(self, tmp_path, content, told):
        (tmp_path / "model.bin").write_bytes(content)
        with pytest.raises(LessonError, match=told):
            ctranslate2.read(tmp_path / "model.bin", "WhisperSpec")

    def test_shape_that_does_not_fit_its_bytes(self, tmp_path):
        whole = model_file({"a": torch.zeros(2, 3)}, {})
        place = whole.index(b"a\0\x02") + 3
        (tmp_path / "model.bin").write_bytes(whole[:place] + struct.pack("<I", 2**31) + whole[place + 4 :])
        with pytest.raises(LessonError, match="a has 24 bytes, which is not what a tensor"):
            ctranslate2.read(tmp_path / "model.bin", "WhisperSpec")


class TestNetwork:
    def test_cache_changes_nothing(self):
        torch.manual_seed(0)
        model = Whisper(SMALL).eval()
        torch.nn.init.normal_(model.decoder.positions)  # they are zeros before weights are loaded
        with torch.no_grad():
            heard = model.encoder(torch.randn(1, 80, 100))
            tokens = torch.randint(60, (1, 9))
            at_once = model.decoder(tokens, model.decoder.new_cache(heard))
            cache = model.decoder.new_cache(heard)
            parts = [model.decoder(tokens[:, :4], cache), *(model.decoder(tokens[:, i : i + 1], cache) for i in range(4, 9))]
        assert isinstance(cache, Cache) and cache.length == 9
        torch.testing.assert_close(torch.cat(parts, dim=1), at_once, atol=1e-5, rtol=1e-5)

    def test_network_is_made_of_pytorchs_layers(self):
        """Its blocks are nn.TransformerEncoderLayer and nn.TransformerDecoderLayer with the same weights: nothing is mixed up."""
        torch.manual_seed(0)
        model = Whisper(SMALL).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)  # norms, biases and positions too: none of them is 0 or 1 by chance
        mel, tokens = torch.randn(2, 80, 100), torch.randint(60, (2, 7))
        with torch.no_grad():
            found = model.decoder(tokens, model.decoder.new_cache(model.encoder(mel)))
            x = F.gelu(model.encoder.conv2(F.gelu(model.encoder.conv1(mel)))).transpose(1, 2) + model.encoder.positions
            for block in model.encoder.blocks:
                x = pytorchs(block)(x)
            heard, y = model.encoder.norm(x), model.decoder.tokens(tokens) + model.decoder.positions[:7]
            for block in model.decoder.blocks:
                y = pytorchs(block)(y, heard, tgt_mask=torch.nn.Transformer.generate_square_subsequent_mask(7))
            expected = model.decoder.norm(y) @ model.decoder.tokens.weight.T
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)

    def test_too_many_tokens_and_too_much_sound_are_told(self):
        model = Whisper(SMALL).eval()
        cache = model.decoder.new_cache(torch.zeros(1, 5, 16))
        with pytest.raises(LessonError, match="21 tokens: the decoder can take 20"):
            model.decoder(torch.zeros(1, 21, dtype=torch.long), cache)
        with pytest.raises(LessonError, match="31 seconds: Whisper listens to 30 at once"):
            log_mel(torch.zeros(31 * RATE))

    def test_mel_bands_are_slaneys(self):
        """A tone sounds in the band where Slaney's scale has it: in step up to 1,000 Hz, then 27 steps to 6,400 Hz."""

        def steps(hz: float) -> float:
            return hz / (200 / 3) if hz < 1000 else 15 + 27 * math.log(hz / 1000) / math.log(6.4)

        for hz in (300.0, 1000.0, 2500.0, 6000.0):
            picture = log_mel(0.5 * torch.sin(2 * math.pi * hz * torch.arange(2 * RATE) / RATE))
            assert picture.shape == (80, 3000)
            assert int(picture[:, 100].argmax()) == pytest.approx(81 * steps(hz) / steps(8000) - 1, abs=0.7)
            assert picture.max() - picture.min() == pytest.approx(2)  # 80 dB: what is fainter counts as silence

    def test_white_noise_is_as_loud_in_every_band(self):
        """Filters of equal area: a wide one does not hear more than a narrow one."""
        picture = log_mel(torch.randn(5 * RATE, generator=torch.Generator().manual_seed(0)))[:, :500].mean(dim=1)
        assert picture[-20:].mean() - picture[:20].mean() == pytest.approx(0, abs=0.15)

    def test_mel_picture_is_transformers(self):
        transformers = pytest.importorskip("transformers")
        wave = torch.randn(5 * RATE, generator=torch.Generator().manual_seed(0)) * 0.1
        theirs = transformers.WhisperFeatureExtractor()(wave.numpy(), sampling_rate=RATE, return_tensors="pt").input_features[0]
        torch.testing.assert_close(log_mel(wave), theirs, atol=2e-4, rtol=0)

    def test_network_is_transformers(self):
        transformers = pytest.importorskip("transformers")
        config = transformers.WhisperConfig(
            vocab_size=60, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
            encoder_ffn_dim=64, decoder_ffn_dim=64, max_source_positions=50, max_target_positions=20, pad_token_id=0,
            bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        )  # fmt: skip
        torch.manual_seed(0)
        theirs = transformers.WhisperForConditionalGeneration(config).eval()
        ours = Whisper(SMALL).eval()
        ours.load_state_dict(from_transformers(theirs.model.state_dict()))
        mel, tokens = torch.randn(2, 80, 100), torch.randint(3, 60, (2, 7))
        with torch.no_grad():
            expected = theirs(input_features=mel, decoder_input_ids=tokens).logits
            found = ours.decoder(tokens, ours.decoder.new_cache(ours.encoder(mel)))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)

    def test_names_of_ctranslate2(self):
        names = renamed(
            {
                "encoder/layer_3/self_attention/layer_norm/gamma": torch.zeros(2).half(),
                "decoder/layer_0/attention/linear_1/weight": torch.zeros(4, 2),
                "decoder/layer_1/ffn/linear_1/bias": torch.zeros(2),
                "decoder/embeddings/weight": torch.zeros(5, 2),
                "decoder/projection/weight": torch.zeros(5, 2),
                "encoder/num_heads": torch.tensor(6),
            }
        )
        assert list(names) == [
            "encoder.blocks.3.attention_norm.weight",
            "decoder.blocks.0.cross.key_value.weight",
            "decoder.blocks.1.mlp.2.bias",
            "decoder.tokens.weight",
        ]
        assert names["encoder.blocks.3.attention_norm.weight"].dtype == torch.float32


def pytorchs(block: Block) -> torch.nn.Module:
    """PyTorch's own layer with the weights of one of ours."""
    has_cross = hasattr(block, "cross")
    layer = torch.nn.TransformerDecoderLayer if has_cross else torch.nn.TransformerEncoderLayer
    made = layer(16, 2, 64, dropout=0.0, activation=F.gelu, batch_first=True, norm_first=True)
    parts = {"norm1": block.attention_norm, "linear1": block.mlp[0], "linear2": block.mlp[2]}
    parts |= {"norm2": block.cross_norm, "norm3": block.mlp_norm} if has_cross else {"norm2": block.mlp_norm}
    inside = {
        "self_attn": [block.attention.qkv],
        "multihead_attn": [block.cross.query, block.cross.key_value] if has_cross else [],
    }
    weights = {f"{name}.{key}": value for name, module in parts.items() for key, value in module.state_dict().items()}
    for name, projections in inside.items():
        for key in ("weight", "bias") if projections else ():
            weights[f"{name}.in_proj_{key}"] = torch.cat([getattr(projection, key) for projection in projections])
            weights[f"{name}.out_proj.{key}"] = getattr((block.attention if name == "self_attn" else block.cross).out, key)
    made.load_state_dict(weights)
    return made.eval()


def from_transformers(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The names of transformers' WhisperModel as ours; queries, keys and values put together. Its keys have no bias."""
    found: dict[str, torch.Tensor] = {}
    parts = {"self_attn": ("attention", "qkv", "qkv"), "encoder_attn": ("cross", "key_value", "kv")}
    plain = {
        "self_attn_layer_norm": "attention_norm", "encoder_attn_layer_norm": "cross_norm", "final_layer_norm": "mlp_norm",
        "fc1": "mlp.0", "fc2": "mlp.2", "layer_norm": "norm", "embed_tokens": "tokens", "embed_positions.weight": "positions",
        "self_attn.out_proj": "attention.out", "encoder_attn.out_proj": "cross.out", "encoder_attn.q_proj": "cross.query",
    }  # fmt: skip
    for name, tensor in weights.items():
        base, attention, *rest = name.replace(".layers.", ".blocks.").partition(".self_attn.q_proj.")
        if ".k_proj." in name or (".v_proj." in name) or (".self_attn.q_proj." in name):
            continue
        new = name.replace(".layers.", ".blocks.")
        for theirs, ours in plain.items():
            if f".{theirs}." in f"{new}." and not (theirs == "layer_norm" and "attn" in new):
                new = new.replace(theirs, ours)
                break
        found[new] = tensor
    for theirs, (ours, together, letters) in parts.items():
        for name in [name for name in weights if name.endswith(f"{theirs}.v_proj.weight")]:
            base = name.removesuffix(".v_proj.weight")
            target = base.replace(".layers.", ".blocks.").removesuffix(theirs) + f"{ours}.{together}"
            found[f"{target}.weight"] = torch.cat([weights[f"{base}.{letter}_proj.weight"] for letter in letters])
            bias = weights[f"{base}.v_proj.bias"]
            none = torch.zeros_like(bias)
            found[f"{target}.bias"] = torch.cat([weights.get(f"{base}.{letter}_proj.bias", none) for letter in letters])
    return found


class TestText:
    @pytest.mark.parametrize(
        ("text", "digits"),
        [
            ("7, 3, 0, 5.", [7, 3, 0, 5]),
            ("730-5526", [7, 3, 0, 5, 5, 2, 6]),
            ("Seven three oh five", [7, 3, 0, 5]),
            ("One to four.", [1, 2, 4]),
            ("Thank you, 5", ["thank", "you", 5]),
            ("", []),
        ],
    )
    def test_digits_in_a_text(self, text, digits):
        assert whisper.digits_in(text) == digits

    def test_cuts_where_it_is_quiet(self):
        wave = torch.randn(70 * RATE, generator=torch.Generator().manual_seed(0))
        wave[27 * RATE : 27 * RATE + RATE // 2] = 0
        wave[55 * RATE : 55 * RATE + RATE // 2] = 0
        pieces = whisper.cut_quietly(wave)
        assert [round(len(piece) / RATE) for piece in pieces] == [27, 28, 15]
        assert torch.equal(torch.cat(pieces), wave) and max(map(len, pieces)) <= SECONDS * RATE

    def test_tokens_are_read_and_others_are_told(self, tmp_path):
        letters = byte_letters()
        vocabulary = {letter: number for number, letter in enumerate(letters.values())} | {"ab": 256}
        added = [{"id": 257, "content": "<|endoftext|>"}]
        file = tmp_path / "tokenizer.json"
        file.write_text(json.dumps({"model": {"vocab": vocabulary, "merges": ["a b"]}, "added_tokens": added}), encoding="utf-8")
        tokens = whisper.read_tokens(file)
        assert tokens.decode([256, 257]) == "ab" and len(tokens) == 258
        for content, told in (("{}", "is not Whisper's tokenizer.json"), ("[1", "cannot be read"), ("[]", "holds no object")):
            file.write_text(content, encoding="utf-8")
            with pytest.raises(LessonError, match=told):
                whisper.read_tokens(file)


class TestMain:
    def test_without_the_package_one_sentence(self, monkeypatch, capsys):
        monkeypatch.setattr(whisper, "load_transcriber", lambda device: None)
        assert whisper.main(strings=1, source="sample", device="cpu") == {}
        assert capsys.readouterr().out.count("\n") == 1

    def test_counts_errors(self, monkeypatch, capsys):
        class Knows:
            def write(self, wave, rate):
                return "7 3 zero"

        monkeypatch.setattr(whisper, "load_transcriber", lambda device: Knows())
        monkeypatch.setattr(type(WHISPER_TINY_EN), "package_name", lambda self: "a package")
        monkeypatch.setattr(whisper, "fsdd", spoken)
        results = whisper.main(strings=3, source="sample", device="cpu")
        assert 0.3 < results["word_error_rate_apart"] <= 1.5 and results["seconds_per_string"] >= 0
        assert "written '7 3 zero'" in capsys.readouterr().out

    def test_recordings_are_written_down_and_silent_ones_are_told(self, monkeypatch, tmp_path, capsys):
        class Knows:
            def write(self, wave, rate):
                return f"{len(wave) / rate:g} seconds"

        monkeypatch.setattr(whisper, "load_transcriber", lambda device: Knows())
        monkeypatch.setattr(type(WHISPER_TINY_EN), "package_name", lambda self: "a package")
        write_wav(tmp_path / "a.wav", torch.rand(16_000), 8000)
        write_wav(tmp_path / "b.wav", torch.zeros(16_000), 8000)
        results = whisper.main((tmp_path / "a.wav",), device="cpu")
        assert results["seconds_of_sound"] == 2 and "a.wav: 2 seconds" in capsys.readouterr().out
        with pytest.raises(LessonError, match="b.wav is silent"):
            whisper.main((tmp_path / "b.wav",), device="cpu")

    def test_wrong_flags(self, tmp_path):
        with pytest.raises(LessonError, match="--strings must be above 0"):
            whisper.main(strings=0)
        with pytest.raises(LessonError, match="is not there"):
            whisper.main((tmp_path / "none.wav",))


@needs_weights
def test_understands_people(real_strings):
    transcriber = whisper.load_transcriber()
    heard = [whisper.digits_in(transcriber.write(wave, real_strings.rate)) for wave in real_strings.waves]
    assert word_errors.word_error_rate(heard, real_strings.digits) < 0.5


@pytest.fixture
def real_strings():
    """Three strings by people, said apart: the first that speech/whisper counts errors in."""
    try:
        clips = fsdd("real")
    except LessonError:
        pytest.skip("needs the Free Spoken Digit Dataset")
    return make_strings(clips.test, 3, APART, seed=2)
