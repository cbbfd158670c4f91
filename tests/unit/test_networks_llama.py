"""utils.networks.llama: transformers' Llama in every number, with its cache and without, and a generator that can be stopped."""

import time

import pytest
import torch
import torch.nn.functional as F

from utils.lesson import LessonError
from utils.networks.llama import (
    Int8Linear,
    KVCache,
    Llama,
    LlamaConfig,
    generate,
    rename_published,
    rotary_tables,
    rotate,
    sample,
    to_int8,
)

SHAPE = LlamaConfig(
    vocab_size=101, width=48, mlp_width=80, layers=3, heads=6, kv_heads=2, max_length=64, rope_theta=500.0, norm_eps=1e-5
)


def random_model(config: LlamaConfig = SHAPE, seed: int = 0) -> Llama:
    """A network whose parts all matter: large weights, norms that are not 1."""
    torch.manual_seed(seed)
    model = Llama(config)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if "norm" in name else 0.0, std=0.3)
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return random_model()


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(101, (2, 20), generator=torch.Generator().manual_seed(1))


def their_twin(model: Llama):
    """transformers' model with the same weights."""
    transformers = pytest.importorskip("transformers")
    c = model.config
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=c.vocab_size,
            hidden_size=c.width,
            intermediate_size=c.mlp_width,
            num_hidden_layers=c.layers,
            num_attention_heads=c.heads,
            num_key_value_heads=c.kv_heads,
            max_position_embeddings=c.max_length,
            rope_parameters={"rope_type": "default", "rope_theta": c.rope_theta},
            rms_norm_eps=c.norm_eps,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=None,
        )
    ).eval()
    theirs.load_state_dict({f"model.{name}": tensor for name, tensor in model.state_dict().items()}, strict=False)
    model.load_state_dict(rename_published(theirs.state_dict()))  # strictly: the names are all there
    return theirs


class TestAgainstTransformers:
    @pytest.mark.parametrize(("heads", "kv_heads"), [(6, 2), (6, 1), (6, 6), (3, 3)])
    @pytest.mark.parametrize("norm_eps", [1e-6, 0.1])
    def test_logits(self, tokens, heads, kv_heads, norm_eps):
        model = random_model(LlamaConfig(101, 48, 80, 3, heads, kv_heads, 64, 500.0, norm_eps))
        with torch.no_grad():
            torch.testing.assert_close(model(tokens), their_twin(model)(tokens).logits, atol=1e-4, rtol=1e-5)

    def test_gradients(self, tokens):
        model = random_model()
        theirs = their_twin(model)
        for network, logits in ((model, model(tokens)), (theirs, theirs(tokens).logits)):
            network.zero_grad()
            F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
        expected = rename_published(dict(theirs.named_parameters()))
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.grad, expected[name].grad, atol=1e-4, rtol=1e-4, msg=name)

    def test_greedy_text(self, model, tokens):
        theirs, prompt = their_twin(model), tokens[:1, :5]
        options = {"attention_mask": torch.ones_like(prompt), "max_new_tokens": 30, "do_sample": False, "pad_token_id": 0}
        written = theirs.generate(prompt, **options)[0, 5:].tolist()
        assert list(generate(model, prompt[0].tolist(), 30)) == written

    @pytest.mark.parametrize(("top_k", "top_p", "temperature"), [(5, 1.0, 1.0), (0, 0.7, 0.6), (9, 0.5, 1.7), (101, 0.01, 1.0)])
    def test_what_is_drawn_from(self, top_k, top_p, temperature):
        pytest.importorskip("transformers")
        from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

        logits = 2 * torch.randn(101, generator=torch.Generator().manual_seed(2))
        expected = TemperatureLogitsWarper(temperature)(None, logits[None])
        for warper in ([TopKLogitsWarper(top_k)] if top_k else []) + [TopPLogitsWarper(top_p)]:
            expected = warper(None, expected)
        shares, generator = expected[0].softmax(dim=0), torch.Generator().manual_seed(3)
        drawn = torch.tensor([sample(logits, temperature, top_k, top_p, generator) for _ in range(2000)])
        found = torch.bincount(drawn, minlength=101) / 2000
        assert not found[shares == 0].any()
        assert (found - shares).abs().max() < 0.05


class TestParts:
    def test_size_and_names(self):
        with torch.device("meta"):
            model = Llama(LlamaConfig(49152, 576, 1536, 30, 9, 3, 8192, 100_000.0, 1e-5))
        assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
        assert len(model.state_dict()) == 272  # the embeddings are there once, the rotary tables not at all
        assert model.cos.device.type == "cpu" and model.cos.shape == (8192, 64)

    def test_rotation_is_one_in_the_complex_plane(self):
        x = torch.randn(2, 3, 7, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        cos, sin = (table[:7].double() for table in rotary_tables(SHAPE))
        turned = rotate(x, cos, sin)
        pairs = torch.complex(x[..., :4], x[..., 4:])
        frequencies = 500.0 ** (-torch.arange(4, dtype=torch.float64) / 4)
        expected = pairs * torch.polar(torch.ones(7, 4).double(), torch.outer(torch.arange(7).double(), frequencies))
        torch.testing.assert_close(torch.complex(turned[..., :4], turned[..., 4:]), expected, atol=1e-6, rtol=1e-6)

    def test_only_distances_count(self):
        q, k = torch.randn(2, 1, 1, 1, 8, generator=torch.Generator().manual_seed(0))
        cos, sin = rotary_tables(SHAPE)
        scores = [
            (rotate(q, cos[at : at + 1], sin[at : at + 1]) * rotate(k, cos[at - 3 : at - 2], sin[at - 3 : at - 2])).sum()
            for at in (3, 10, 63)
        ]
        torch.testing.assert_close(torch.stack(scores), scores[0].expand(3), atol=1e-5, rtol=1e-5)

    def test_nobody_looks_ahead(self, model, tokens):
        changed = tokens.clone()
        changed[:, 12:] = (changed[:, 12:] + 1) % 101
        with torch.no_grad():
            one, other = model(tokens), model(changed)
        assert torch.equal(one[:, :12], other[:, :12]) and not torch.equal(one[:, 12:], other[:, 12:])

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"heads": 5}, "cannot be cut"),
            ({"heads": 16}, "has to be even"),
            ({"kv_heads": 4}, "evenly"),
            ({"heads": 0}, "above 0"),
        ],
    )
    def test_shapes_that_cannot_be(self, changes, words):
        with pytest.raises(LessonError, match=words):
            LlamaConfig(**{"vocab_size": 9, "width": 48, "mlp_width": 8, "layers": 1, "heads": 6, "kv_heads": 2} | changes)


class TestCache:
    @pytest.mark.parametrize("parts", [[20], [1] * 20, [7, 1, 1, 11], [5, 15]])
    def test_in_parts(self, model, tokens, parts):
        cache = model.new_cache(24, batch=2)
        with torch.no_grad():
            logits = torch.cat([model(part, cache) for part in tokens.split(parts, dim=1)], dim=1)
            torch.testing.assert_close(logits, model(tokens), atol=1e-4, rtol=1e-5)
        assert cache.length == 20 and cache.keys.shape == (3, 2, 2, 24, 8)

    def test_memory_is_laid_out_once(self, model, tokens):
        cache = model.new_cache(24, batch=2)
        place = cache.keys.data_ptr()
        with torch.inference_mode():
            for i in range(20):
                model.states(tokens[:, i : i + 1], cache)
        assert cache.keys.data_ptr() == place and not cache.keys[:, :, :, 20:].any() and cache.keys[:, :, :, :20].any()

    def test_rewind(self, model, tokens):
        cache = model.new_cache(24, batch=2)
        with torch.no_grad():
            model(tokens, cache)
            cache.rewind(8)
            again = model(tokens[:, 8:12], cache)
            torch.testing.assert_close(again, model(tokens[:, :12])[:, 8:], atol=1e-4, rtol=1e-5)

    def test_may_be_written_to_in_any_mode(self, model, tokens):
        with torch.inference_mode():
            cache = model.new_cache(24, batch=2)
            model(tokens[:, :3], cache)
        with torch.no_grad():
            model(tokens[:, 3:6], cache)

    def test_full(self, model, tokens):
        with pytest.raises(LessonError, match="21 tokens, and there is room for 20"):
            cache = model.new_cache(20, batch=2)
            with torch.no_grad():
                model(tokens, cache)
                model(tokens[:, :1], cache)
        for length in (0, 65):
            with pytest.raises(LessonError, match="1 to 64"):
                KVCache(SHAPE, length)
        with pytest.raises(LessonError, match="room for 64"):
            model(torch.zeros(1, 65, dtype=torch.long))


class TestGenerate:
    def test_is_the_likeliest_token_each_time(self, model):
        tokens = [5, 6, 7]
        for token in generate(model, [5, 6, 7], 20):
            with torch.no_grad():
                assert token == model(torch.tensor([tokens]))[0, -1].argmax()
            tokens.append(token)
        assert len(tokens) == 23

    def test_long_prompts_are_read_in_parts(self, model, tokens, monkeypatch):
        prompt = tokens[0].tolist()
        expected = list(generate(model, prompt, 10))
        monkeypatch.setattr("utils.networks.llama.CHUNK", 6)
        assert list(generate(model, prompt, 10)) == expected

    def test_may_be_stopped_and_goes_on_from_its_cache(self, model):
        whole, cache = list(generate(model, [5, 6, 7], 12)), model.new_cache(40)
        writing = generate(model, [5, 6, 7], 12, cache=cache)
        first = [next(writing) for _ in range(5)]
        writing.close()
        assert first == whole[:5] and cache.tokens == [5, 6, 7, *first[:4]] and cache.length == 7
        assert first + list(generate(model, [5, 6, 7, *first], 7, cache=cache)) == whole

    def test_reads_only_what_is_new(self, model, monkeypatch):
        cache, read = model.new_cache(40), []
        list(generate(model, [5, 6, 7, 8], 1, cache=cache))
        states = Llama.states
        monkeypatch.setattr(
            Llama, "states", lambda self, tokens, cache: read.extend(tokens[0].tolist()) or states(self, tokens, cache)
        )
        with_it = list(generate(model, [5, 6, 9, 10], 3, cache=cache))
        assert read[:2] == [9, 10]
        assert with_it == list(generate(model, [5, 6, 9, 10], 3))
        read.clear()
        list(generate(model, [5, 6], 1, cache=cache))  # a prompt that is in it altogether: its last token is read again
        assert read == [6]

    def test_stops(self, model):
        written = list(generate(model, [5, 6, 7], 20))
        stop = written[4]
        assert list(generate(model, [5, 6, 7], 20, stop={stop})) == written[: written.index(stop)]
        assert list(generate(model, [5, 6, 7], 0)) == []
        assert len(list(generate(model, [5] * 60, 20))) == 5  # 64 tokens are read, and the one after them is written
        assert len(list(generate(model, [5], 20, cache=model.new_cache(4)))) == 4

    def test_seeds(self, model):
        drawn = [list(generate(model, [5], 15, temperature=1.0, seed=seed)) for seed in (0, 0, 1)]
        assert drawn[0] == drawn[1] != drawn[2]
        assert list(generate(model, [5], 15, temperature=3.0, top_k=1, seed=4)) == list(generate(model, [5], 15))
        assert list(generate(model, [5], 15, temperature=3.0, top_p=1e-6, seed=4)) == list(generate(model, [5], 15))

    def test_time_of_a_token_does_not_grow_with_what_was_copied(self):
        model = random_model(LlamaConfig(50, 32, 32, 1, 2, 1, max_length=4096))
        cache, seconds = model.new_cache(4096), []
        with torch.inference_mode():
            model.states(torch.zeros(1, 4000, dtype=torch.long), cache)
            for length in (100, 3900):
                best = 1.0
                for _ in range(30):
                    cache.rewind(length)
                    started = time.perf_counter()
                    model.states(torch.zeros(1, 1, dtype=torch.long), cache)
                    best = min(best, time.perf_counter() - started)
                seconds.append(best)
        assert seconds[1] < 10 * seconds[0]  # 39 times the tokens; the square would be 1,500

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"prompt": []}, "empty"),
            ({"prompt": [1] * 65}, "shorten"),
            ({"temperature": -1.0}, "never below 0"),
            ({"top_k": -1}, "from 0 up"),
            ({"top_p": 0.0}, "above 0"),
        ],
    )
    def test_wrong_settings(self, model, changes, words):
        with pytest.raises(LessonError, match=words):
            next(generate(model, **{"prompt": [1]} | changes))


class TestInt8:
    def test_layer(self):
        weight = torch.randn(24, 64, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.01, 10, 24)[:, None]
        weight[3] = 0
        layer, x = Int8Linear(weight), torch.randn(5, 7, 64, generator=torch.Generator().manual_seed(1))
        unpacked = layer.weight.float() * layer.scale.float()[:, None]
        assert ((unpacked - weight).abs() <= weight.abs().amax(dim=1, keepdim=True) * 0.505 / 127 + 1e-12).all()
        out, expected = layer(x), F.linear(x, unpacked)
        assert out.shape == (5, 7, 24) and out.dtype == torch.float32
        error = (out - expected).abs().amax(dim=(0, 1)) / expected.abs().amax(dim=(0, 1)).clamp(min=1e-9)
        assert error.max() < 0.02  # bfloat16

    def test_model(self, tokens):
        model = random_model()
        with torch.no_grad():
            expected = model(tokens).log_softmax(dim=2)
            assert to_int8(model) is model
            found = model(tokens).log_softmax(dim=2)
        assert sum(isinstance(module, Int8Linear) for module in model.modules()) == 3 * 7 + 1
        right = expected.argmax(dim=2) == found.argmax(dim=2)
        assert right.float().mean() > 0.8
        assert len(list(generate(model, [5, 6], 10))) == 10
