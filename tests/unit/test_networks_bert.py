"""utils.networks.bert and utils.wordpiece: the architecture and the tokenizer that published weights were trained with."""

import random
import shutil

import pytest
import torch
import torch.nn.functional as F

from utils.lesson import LessonError
from utils.networks.bert import MINILM_L6, Bert, BertConfig, MaskedLanguageModel, embed, load_minilm, mean_of_real
from utils.weights import MINILM
from utils.wordpiece import SPECIAL, WordPiece

needs_weights = pytest.mark.skipif(
    MINILM.packaged() is None, reason="needs the weights package: python -m study setup --extra models"
)
TINY = BertConfig(50, 24, 2, 3, 40, max_position_embeddings=16)
NASTY = (
    "", " ", "\t\n", "Hello, World!", "it's 'quoted' -- isn't it?", "Ünïcödé ÀÉÎÕÜ naïve façade Ångström", "İstanbul Straße ﬁn",
    "ΣΊΣΥΦΟΣ", "한국어 문장입니다. 값이 3,000원!", "日本語のテキスト、カタカナ。", "中文字符混合English混合", "𠀀𫝀豈",
    "a\u0000b\ufffdc\u200bd\u00ade", "a\u00a0b\u2003c\u3000d\u2028e", "emoji 😀👩‍👩‍👧 🇰🇷 ok", "e\u0301 and é", "ᄒ ᅡ ᆫ 한",
    "$5 ^ `x` + y = z ~ <tag> |", "¿qué? ¡no! «oui» “yes”…", "[MASK] and [mask], [SEP][CLS] x[PAD]y [UNK]", "unaffable" * 3,
    "x" * 100, "x" * 101, "supercalifragilisticexpialidocious", "أَهْلًا وَسَهْلًا", "नमस्ते", "Привет, ЁЖИК", "1234567890.50%",
    "a_b-c/d\\e@f.com#tag", "\ue000private\u0378unassigned", "ǅ ǈ ß ẞ",
)  # fmt: skip


def small_tokenizer(**options) -> WordPiece:
    return WordPiece([*SPECIAL, "the", "walk", "##ing", "##s", "!", "w", "##a", "한국", "##은", "국"], **options)


class TestWordPiece:
    def test_longest_piece_first(self):
        tokenizer = small_tokenizer()
        assert tokenizer.tokens("The WALKING walks!") == ["the", "walk", "##ing", "walk", "##s", "!"]
        assert tokenizer.tokens("wa wax walked") == ["w", "##a", "[UNK]", "[UNK]"]  # one strange piece, and the whole word is
        assert tokenizer.tokens("") == []

    def test_encode_and_batch(self):
        tokenizer = small_tokenizer()
        pad, _, cls, sep, mask = range(5)
        assert tokenizer.encode("the walk") == [cls, 5, 6, sep]
        assert tokenizer.encode("the", "walk") == [cls, 5, sep, 6, sep]
        assert tokenizer.encode("the walk the walk", longest=4) == [cls, 5, 6, sep]
        assert tokenizer.encode("[MASK] walk") == [cls, mask, 6, sep]
        ids, real = tokenizer.batch(["the", "the walk!"])
        assert ids.tolist() == [[cls, 5, sep, pad, pad], [cls, 5, 6, 9, sep]]
        assert torch.equal(real, ids != pad)
        assert tokenizer.text([5, 6, 7]) == "the walking"

    def test_korean_stays_whole_only_where_the_vocabulary_is_cased(self):
        assert small_tokenizer(uncased=False).tokens("한국은 The") == ["한국", "##은", "[UNK]"]
        assert small_tokenizer().tokens("한국은") == ["[UNK]"]  # taken apart into letters, which are not in the vocabulary

    def test_files_that_are_none(self, tmp_path):
        with pytest.raises(LessonError, match="does not exist"):
            WordPiece.from_file(tmp_path / "vocab.txt")
        with pytest.raises(LessonError) as error:
            WordPiece.from_file(tmp_path)
        assert "\n" not in str(error.value)
        (tmp_path / "vocab.txt").write_text("one\ntwo\n", encoding="utf-8")
        with pytest.raises(LessonError, match=r"vocab.txt: the vocabulary lacks \[PAD\]"):
            WordPiece.from_file(tmp_path / "vocab.txt")
        (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(LessonError, match="not UTF-8"):
            WordPiece.from_file(tmp_path / "vocab.txt")

    @needs_weights
    def test_equals_hugging_faces_on_nasty_strings(self):
        tokenizers = pytest.importorskip("tokenizers")
        theirs = tokenizers.Tokenizer.from_file(str(MINILM.packaged().with_name("tokenizer.json")))
        theirs.no_truncation()
        theirs.no_padding()
        ours, draw = WordPiece.from_file(MINILM.packaged().with_name("vocab.txt")), random.Random(0)
        mixed = ["".join(draw.choices("".join(NASTY), k=40)) for _ in range(300)]
        for text in (*NASTY, *mixed):
            assert ours.encode(text) == theirs.encode(text).ids, ascii(text)
            assert ours.encode(text, "and more") == theirs.encode(text, "and more").ids, ascii(text)


@pytest.fixture
def model():
    torch.manual_seed(0)
    network = MaskedLanguageModel(TINY).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # zeros and ones would hide a mistake
    return network


class TestNetwork:
    def test_equals_transformers(self, model):
        transformers = pytest.importorskip("transformers")
        sizes = {name: value for name, value in vars(TINY).items() if name != "dropout"}
        theirs = transformers.BertForMaskedLM(transformers.BertConfig(**sizes)).eval()
        weights = model.state_dict()
        weights["cls.predictions.decoder.weight"] = weights["bert.embeddings.word_embeddings.weight"]
        weights["cls.predictions.decoder.bias"] = weights["cls.predictions.bias"]
        left = theirs.load_state_dict({name: value for name, value in weights.items() if "pooler" not in name}, strict=True)
        assert not left.missing_keys
        ids, segments = torch.randint(50, (3, 9)), torch.randint(2, (3, 9))
        real = torch.arange(9) < torch.tensor([9, 4, 1])[:, None]
        with torch.no_grad():
            expected = theirs(input_ids=ids, attention_mask=real.long(), token_type_ids=segments).logits
            torch.testing.assert_close(model(ids, real, segments)[real], expected[real], atol=1e-5, rtol=1e-5)

    def test_logits_of_some_places_are_those_of_all(self, model):
        ids, where = torch.randint(50, (3, 9)), torch.rand(3, 9) < 0.3
        torch.testing.assert_close(model(ids, where=where), model(ids)[where])

    def test_reads_in_both_directions_but_no_padding(self, model):
        ids = torch.randint(50, (1, 9))
        changed = torch.cat([ids[:, :-1], (ids[:, -1:] + 1) % 50], dim=1)
        real = torch.arange(9)[None] < 8
        with torch.no_grad():
            assert (model.bert(ids) - model.bert(changed))[:, 0].abs().max() > 1e-2
            assert torch.equal(model.bert(ids, real)[:, :8], model.bert(changed, real)[:, :8])
            torch.testing.assert_close(model.bert(ids, real)[:, :8], model.bert(ids[:, :8]))
            assert (model.bert(ids, segments=torch.ones_like(ids)) - model.bert(ids)).abs().max() > 1e-2

    def test_initial_weights_are_berts(self):
        torch.manual_seed(0)
        network = Bert(BertConfig(500, 64, 2, 4, 128))
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                assert not parameter.any(), name
            elif "LayerNorm" not in name and parameter.numel() > 1000:
                assert 0.018 < parameter.std() < 0.022, name

    def test_dropout_is_in_training_only(self):
        torch.manual_seed(0)
        network, ids = Bert(TINY), torch.randint(50, (2, 9))
        assert not torch.equal(network(ids), network(ids))
        network.eval()
        assert torch.equal(network(ids), network(ids))

    def test_too_many_tokens(self, model):
        with pytest.raises(LessonError, match="17 tokens are more than the 16"):
            model(torch.zeros(1, 17, dtype=torch.int64))

    def test_every_weight_learns(self, model):
        ids = torch.randint(50, (3, 9))
        loss = model.train()(ids).square().mean() + model.bert.pooled(model.bert(ids)).square().mean()
        loss.backward()
        assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


def test_mean_leaves_padding_out():
    states, real = torch.randn(2, 4, 3), torch.tensor([[True] * 4, [True, True, False, False]])
    expected = torch.stack([states[0].mean(dim=0), states[1, :2].mean(dim=0)])
    torch.testing.assert_close(mean_of_real(states, real), expected)


class TestEmbed:
    def test_order_batches_and_mode_do_not_matter(self):
        torch.manual_seed(0)
        network, tokenizer = Bert(BertConfig(15, 24, 1, 3, 40, max_position_embeddings=8)).train(), small_tokenizer()
        texts = ["walks", "the walk", "", "the walking the walks!" * 4, "the"]
        vectors = embed(network, tokenizer, texts, batch_size=2)
        assert network.training
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(5))
        torch.testing.assert_close(vectors, torch.cat([embed(network, tokenizer, [text]) for text in texts]))
        with pytest.raises(LessonError, match="no texts"):
            embed(network, tokenizer, [])


@pytest.fixture(scope="module")
def minilm():
    return load_minilm(MINILM.packaged())


@needs_weights
class TestMiniLM:
    def test_published_similarities(self, minilm):
        """The first three are in Sentence Transformers' documentation of this model; the fourth is what transformers gives."""
        texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
        vectors = embed(*minilm, [*texts, "This is an example sentence", "Each sentence is converted"])
        similar = vectors @ vectors.T
        found = torch.stack([similar[0, 1], similar[0, 2], similar[1, 2], similar[3, 4]])
        torch.testing.assert_close(found, torch.tensor([0.6660, 0.1046, 0.1411, 0.4046]), atol=1e-4, rtol=0)
        torch.testing.assert_close(vectors[3, :3], torch.tensor([0.0677, 0.0635, 0.0487]), atol=1e-4, rtol=0)

    def test_equals_transformers(self, minilm):
        transformers = pytest.importorskip("transformers")
        model, tokenizer = minilm
        theirs = transformers.BertModel.from_pretrained(MINILM.packaged().parent, local_files_only=True).eval()
        texts = ["Short.", "A much longer sentence, with a comma in it, and naïve words.", "한국어 문장"]
        ids, real = tokenizer.batch(texts)
        with torch.no_grad():
            expected, states = theirs(input_ids=ids, attention_mask=real.long()), model(ids, real)
        assert (states - expected.last_hidden_state)[real].abs().max() < 1e-5
        assert (model.pooled(states) - expected.pooler_output).abs().max() < 1e-5
        means = torch.stack([row[some].mean(dim=0) for row, some in zip(expected.last_hidden_state, real, strict=True)])
        torch.testing.assert_close(embed(model, tokenizer, texts), F.normalize(means, dim=1), atol=1e-5, rtol=0)

    def test_size(self, minilm):
        assert sum(parameter.numel() for parameter in minilm[0].parameters()) == 22_713_216
        assert minilm[0].config == MINILM_L6 and not minilm[0].training

    def test_truncated_and_incomplete_folders(self, tmp_path):
        file = tmp_path / "model.safetensors"
        with open(MINILM.packaged(), "rb") as source:
            file.write_bytes(source.read(100_000))
        with pytest.raises(LessonError, match="truncated") as error:
            load_minilm(file)
        assert "\n" not in str(error.value)
        shutil.copy(MINILM.packaged(), file)
        with pytest.raises(LessonError, match="vocab.txt does not exist"):
            load_minilm(file)
        (tmp_path / "vocab.txt").write_text("\n".join(SPECIAL), encoding="utf-8")
        with pytest.raises(LessonError, match="5 tokens"):
            load_minilm(file)


def test_files_that_are_not_minilm(tmp_path):
    from safetensors.torch import save_file

    file = tmp_path / "model.safetensors"
    with pytest.raises(LessonError, match="does not exist"):
        load_minilm(file)
    file.write_bytes(b"")
    with pytest.raises(LessonError, match="truncated or no file of safetensors"):
        load_minilm(file)
    file.write_bytes(b"\x80\x04 a pickle, say")
    with pytest.raises(LessonError, match="truncated or no file of safetensors"):
        load_minilm(file)
    save_file(Bert(TINY).state_dict(), file)
    with pytest.raises(LessonError, match="of another model than Bert: it lacks encoder.layer.2") as error:
        load_minilm(file)
    assert "\n" not in str(error.value)
