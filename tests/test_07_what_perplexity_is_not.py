"""What perplexity is not: units are counted rightly, beams find the likeliest, and what is measured of a text is exact."""

import itertools
import math
from functools import partial

import pytest
import torch
from conftest import lesson

from utils import paths
from utils.datasets.plain_texts import PlainText, stories_text
from utils.lesson import LessonError

SMALL = {"steps": 2, "lr": 0.02, "width": 16, "count": 3, "length": 12, "beams": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def subject():
    return lesson("07_nlp/what_perplexity_is_not")


@pytest.fixture(scope="module")
def model(subject):
    """One whose chances are far from equal."""
    model = subject.Recurrent(5, 8, seed=0)
    torch.manual_seed(1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.8)
    return model.requires_grad_(False)


def total(model, begun: torch.Tensor, text: torch.Tensor) -> float:
    """The log probability of one text (n,) after another one."""
    logits = model(torch.cat([begun, text])[None, :-1])[0, len(begun) - 1 :]
    return logits.log_softmax(dim=1).gather(1, text[:, None]).sum().item()


class TestTokenizers:
    def test_pure_chance_has_the_bits_of_its_bytes(self, subject, capsys):
        letters = torch.randint(97, 123, (6000,), generator=torch.Generator().manual_seed(0)).tolist()
        noise = "".join(map(chr, letters))
        found = subject.compare_tokenizers(PlainText(noise[:5000], "", noise[5000:], "noise", False), (256,), 1)
        perplexity, per_character, per_byte = found[256]
        assert perplexity == pytest.approx(26, rel=0.03)
        assert per_character == pytest.approx(math.log2(26), rel=0.01) and per_byte == pytest.approx(per_character)

    def test_hangul_has_three_bytes(self, subject):
        text = "가나다라마바사\n" * 60
        found = subject.compare_tokenizers(PlainText(text, "", text, "made up", False), (256,), 2)[256]
        assert found[1] == pytest.approx(found[2] * 22 / 8)

    def test_fewer_tokens_have_the_lower_perplexity_and_more_bits(self, subject):
        found = subject.compare_tokenizers(stories_text(1500, 0), (256, 512), 5)
        assert found[256][0] < found[512][0] and found[256][1] > found[512][1]


def test_network_learns_far_more_than_frequencies(subject):
    _, learned, _, test = subject.cut(stories_text(600, 0), 320)
    model = subject.Recurrent(320, 48, seed=0)
    subject.train_on_rows(model, learned.unfold(0, 65, 1), 120, 8, 0.02, 0)
    counts = learned.bincount(minlength=320) + 1
    frequencies = (-(counts / counts.sum()).log()[test[1:3000]].mean()).exp().item()
    assert subject.spoil(model, test[:3000], 0.02, 3.0)["as it is"] < frequencies / 5


def test_spoiling(subject, model):
    ids = torch.randint(5, (400,), generator=torch.Generator().manual_seed(0))
    found = subject.spoil(model, ids, 0.02, 3.0)
    assert found["noisy"] < found["as it is"] / 0.98
    assert found["too sure"] > 1.5 * found["as it is"]  # on noise it is wrong all the time
    chances = model(ids[None, :-1])[0].softmax(dim=1).gather(1, ids[1:, None])
    assert found["as it is"] == pytest.approx((-chances.log().mean()).exp().item(), rel=1e-4)
    likeliest = subject.write(model, ids[None, :1], 100, lambda logits: logits.argmax(dim=1))[0]
    found = subject.spoil(model, likeliest, 0.02, 3.0)  # where it is right all the time
    assert found["too sure"] < found["as it is"] < found["noisy"] < found["as it is"] / 0.98


class TestWriting:
    def test_drawing_follows_the_probabilities(self, subject):
        logits = torch.tensor([1.0, 3.0, 0.0, 2.0]).expand(4000, -1)
        generator = torch.Generator().manual_seed(0)
        drawn = subject.drawing(generator)(logits).bincount(minlength=4) / 4000
        torch.testing.assert_close(drawn, logits[0].softmax(dim=0), atol=0.03, rtol=0)
        assert (subject.drawing(generator, temperature=0.0)(logits[:9]) == 1).all()
        assert set(subject.drawing(generator, top_k=2)(logits[:500]).tolist()) == {1, 3}
        noisy = subject.drawing(generator, noise=0.4, temperature=0.0)(logits)
        assert (noisy != 1).float().mean().item() == pytest.approx(0.3, abs=0.04)  # a quarter of the blind ones hits it

    def test_writes_as_if_it_read_everything_again(self, subject, model):
        begun = torch.tensor([[1, 2, 3], [4, 0, 1]])
        written, texts = subject.write(model, begun, 6, lambda logits: logits.argmax(dim=1)), begun
        for _ in range(6):
            texts = torch.cat([texts, model(texts)[:, -1].argmax(dim=1, keepdim=True)], dim=1)
        assert torch.equal(written, texts[:, 3:])

    def test_beam_search_finds_the_likeliest(self, subject, model):
        begun = torch.tensor([[1, 2, 3], [4, 0, 1]])
        found = subject.beam_search(model, begun, 4, beams=125)
        for text, answer in zip(begun, found, strict=True):
            best = max(total(model, text, torch.tensor(one)) for one in itertools.product(range(5), repeat=4))
            assert total(model, text, answer) == pytest.approx(best, abs=1e-4)

    def test_one_beam_is_greedy(self, subject, model):
        begun = torch.tensor([[1, 2, 3], [4, 0, 1]])
        assert torch.equal(
            subject.beam_search(model, begun, 8, 1), subject.write(model, begun, 8, subject.drawing(None, temperature=0.0))
        )


class TestJudging:
    def test_counts(self, subject, model):
        texts = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3], [4, 4, 4, 4, 4, 4, 4, 4]])  # 5 4-grams each, the last one a repetition
        begun = torch.tensor([[0, 1], [2, 3]])
        repeated, distinct, unseen, own = subject.judge(model, begun, texts, {(0, 1, 2, 3), (4, 4, 4, 4)})
        assert repeated == pytest.approx((1 / 5 + 4 / 5) / 2)
        assert distinct == pytest.approx(5 / 10)
        assert unseen == pytest.approx(3 / 10)
        losses = [-total(model, *pair) / 8 for pair in zip(begun, texts, strict=True)]
        assert own == pytest.approx(math.exp(sum(losses) / 2), rel=1e-4)

    def test_error(self, subject):
        assert "probability tensor contains" in subject.meet_error()


class TestMain:
    @pytest.fixture(autouse=True)
    def less_to_do(self, subject, request, monkeypatch):
        if "slow" not in request.keywords:
            monkeypatch.setattr(subject, "stories_text", partial(stories_text, 300))

    def test_check_notices_a_model_that_has_not_learned(self, subject):
        with pytest.raises(LessonError, match="more --steps"):
            subject.main(**SMALL, seed=0)
        assert (paths.outputs("what_perplexity_is_not") / "ways.png").exists()

    @pytest.mark.parametrize(
        ("wrong", "message"), [({"steps": 0}, "others 1"), ({"count": 1}, "at least 2"), ({"length": 3}, "8")]
    )
    def test_settings_that_cannot_be(self, subject, wrong, message):
        with pytest.raises(LessonError, match=message):
            subject.main(**(SMALL | wrong), seed=0)

    @pytest.mark.slow  # the default run: only a trained model shows what greedy writing does
    def test_default_settings(self, subject):
        results = subject.main(seed=1)
        assert results["greedy_repeated"] > results["real_repeated"] + 0.1
        assert results["greedy_own"] < results["real_own"] and results["temperature_1.5_unseen"] > results["as_it_is_unseen"]
        assert results["noisy_perplexity"] < 1.05 * results["as_it_is_perplexity"]
        assert results["2_%_noise_unseen"] > 2 * results["as_it_is_unseen"]
