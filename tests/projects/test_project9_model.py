"""Project 9: tokens come back as sentences, the cache changes nothing, the beam finds what there is, attention adds up."""

import re

import pytest
import torch
from projects.captioning_world import Brightness

from project9_captioning import data
from project9_captioning.data import encode, shifted, unknown_share
from project9_captioning.decode import write_captions
from project9_captioning.model import Captioner, Shape, load_network, save_network
from project9_captioning.words import END, ENGLISH, KOREAN, SPECIAL, UNKNOWN, Vocabulary, join, learn_vocabulary, split
from utils import checkpoint
from utils.datasets.captioned_scenes import draw_captioned, mirrored, tell
from utils.lesson import LessonError

SENTENCES = [
    "a large red disc is left of a small blue square, and a ring is above them",
    "작은 원이 별 안에 있고, 네모는 그 위쪽에 있다",
]


@pytest.fixture(scope="module")
def model() -> Captioner:
    """A network with random weights that prefers something."""
    torch.manual_seed(0)
    model = Captioner(Shape(side=16, tokens=9, width=16, heads=2, layers=2)).eval()
    model.embedding.weight.data *= 6
    return model


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (3, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


class TestWords:
    def test_particles_and_commas_are_apart_and_come_back(self):
        assert split("원이 별을 가린다") == ["원", "+이", "별", "+을", "가린다"]
        assert split("A man's T-shirt , half-red .") == ["a", "man's", "t-shirt", "+,", "half-red"]
        for sentence in SENTENCES:
            assert join(split(sentence)) == sentence

    def test_every_caption_of_the_sample_comes_back(self):
        scenes = draw_captioned(40, seed=5).scenes
        told = [tell(scene, language) for scene in scenes for language in ("en", "ko")]
        vocabulary = learn_vocabulary(told, least=1)
        for sentence in told:
            language = "ko" if re.search("[가-힣]", sentence) else "en"
            numbers = vocabulary.encode(language, sentence)
            assert vocabulary.decode(numbers) == sentence and UNKNOWN not in numbers
            assert numbers[0] == (KOREAN if language == "ko" else ENGLISH) and numbers[-1] == END

    def test_rare_and_new_words_are_unknown(self):
        vocabulary = learn_vocabulary(["a dog runs", "a dog sits", "a cat"], least=2)
        assert vocabulary.tokens == [*SPECIAL, "a", "dog"]
        tokens = [vocabulary.encode("en", "a zebra runs")]
        assert tokens[0] == [ENGLISH, 5, UNKNOWN, UNKNOWN, END] and unknown_share(torch.tensor(tokens)) == pytest.approx(0.4)
        with pytest.raises(LessonError, match="no word of the captions occurs 4 times"):
            learn_vocabulary(["a dog"], least=4)
        with pytest.raises(LessonError, match="begins with the special tokens"):
            Vocabulary(["a"])


class TestData:
    def test_tokens_of_every_caption_of_a_picture(self):
        pictures = data.Pictures(
            torch.zeros(2, 3, 16, 16, dtype=torch.uint8), {"en": [["a dog", "dog"], ["a cat"]]}, [], torch.empty(0, 3, 4)
        )
        vocabulary = learn_vocabulary(data.all_sentences(pictures), least=1)
        tokens = encode(vocabulary, pictures, longest=10)
        assert tokens.shape == (2, 2, 4)
        assert [vocabulary.decode(row) for row in tokens[0].tolist()] == ["a dog", "dog"]
        assert [vocabulary.decode(row) for row in tokens[1].tolist()] == ["a cat", "a cat"]  # repeated
        assert encode(vocabulary, pictures, longest=2).shape == (2, 2, 2)

    def test_sample_in_a_mirror(self):
        one = data.write_sample("train", 12, seed=0, mirror=True)
        assert len(one) == len(one.scenes) == len(one.boxes) == len(one.captions["ko"]) == 24
        assert torch.equal(one.images[12:], one.images[:12].flip(3))
        drawn = draw_captioned(12, seed=0)
        again = mirrored(mirrored(drawn))
        assert again.scenes == drawn.scenes and torch.equal(again.boxes, drawn.boxes)
        for scene, boxes in zip(mirrored(drawn).scenes, mirrored(drawn).boxes.tolist(), strict=True):
            if scene.relation == "left of":
                assert boxes[0][2] <= boxes[1][0] + 2

    def test_shifted_pictures_keep_what_is_in_them(self):
        images = torch.zeros(4, 3, 20, 20, dtype=torch.uint8)
        images[:, :, 9:11, 9:11] = 200
        generator, places = torch.Generator().manual_seed(0), set()
        for _ in range(30):
            moved = shifted(images, generator)
            assert moved.dtype == torch.uint8 and moved.shape == images.shape and (moved == 200).sum() == 4 * 3 * 4
            places.add(tuple((moved[0, 0] == 200).nonzero()[0].tolist()))
        assert len(places) > 10 and all(6 <= y <= 12 and 6 <= x <= 12 for y, x in places)


class TestNetwork:
    def test_shapes_and_no_looking_ahead(self, model, images):
        tokens = torch.randint(5, 9, (3, 2, 6))
        logits, found = model(images, tokens)
        assert logits.shape == (3, 2, 6, 9) and found.shape == (3, 9)
        later = tokens.clone()
        later[..., 4:] = 5
        torch.testing.assert_close(model(images, later)[0][:, :, :4], logits[:, :, :4])
        assert not torch.equal(model(images.flip(0), tokens)[0], logits)  # it looks
        for caption in (0, 1):  # each is of its own picture
            torch.testing.assert_close(model(images[2:], tokens[2:, caption : caption + 1])[0][0, 0], logits[2, caption])

    def test_what_is_found_at_a_place_is_its_own_and_where_to_look_is_not(self):
        torch.manual_seed(0)
        model = Captioner(Shape(side=56, tokens=9, width=16, heads=2, layers=2)).eval()
        images = torch.full((2, 3, 56, 56), 90, dtype=torch.uint8)
        images[1, :, 48:, 48:] = 250  # in the corner that is farthest from the first place
        for keys, values in model.read(images).memory:
            first, last = [(values[0, ..., place, :] - values[1, ..., place, :]).abs().max() for place in (0, -1)]
            assert first < 1e-6 and last > 1e-3
            assert (keys[0, ..., 0, :] - keys[1, ..., 0, :]).abs().max() > 1e-5

    def test_word_is_about_a_picture_if_it_is_about_any_place_of_it(self, model, images):
        said = model.speak(model.see(images)[0])  # (pictures, places, width): words are what it is like
        odds = (said @ model.embedding.weight.T + model.rare).exp()  # (pictures, places, tokens)
        torch.testing.assert_close(model(images, torch.full((3, 1, 1), ENGLISH))[1], odds.sum(dim=1).log(), atol=1e-4, rtol=1e-4)

    def test_cache_changes_nothing(self, model, images):
        tokens = torch.randint(5, 9, (3, 6))
        whole, reading = model.write(tokens, model.read(images)), model.read(images)
        steps = torch.cat([model.write(tokens[:, i : i + 1], reading) for i in range(6)], dim=1)
        torch.testing.assert_close(steps, whole, atol=1e-5, rtol=1e-4)
        assert reading.length == 6

    def test_covers_words_in_training_only_and_never_the_start(self, images):
        torch.manual_seed(0)
        model, read = Captioner(Shape(16, 9, 16, 2, 1), covered=1.0), []
        model.embedding.register_forward_hook(lambda _, inputs, __: read.append(inputs[0]))
        tokens = torch.full((3, 20, 40), 7)
        tokens[..., 0] = KOREAN
        model(images, tokens)
        shares = (read[0][:, 1:] == UNKNOWN).float().mean(dim=1)  # of each caption another one, from none to nearly all
        assert (read[0][:, 0] == KOREAN).all() and shares.min() < 0.15 and shares.max() > 0.85 and 0.3 < shares.mean() < 0.7
        model.eval()(images, tokens)
        assert torch.equal(read[1], tokens.flatten(0, 1))

    def test_looks_are_the_shares_with_which_places_say_what_comes_next(self, images):
        torch.manual_seed(0)
        model = Captioner(Shape(16, 9, 16, heads=2, layers=2)).eval()
        tokens = torch.randint(5, 9, (3, 5))
        looks = model.looks(images, tokens)
        assert looks.shape == (3, 5, 2, 2)
        torch.testing.assert_close(looks.sum(dim=(2, 3)), torch.ones(3, 5))
        before, said = model.think(tokens, model.read(images)), model.speak(model.see(images)[0])
        expected = (before + looks.flatten(2) @ said) @ model.embedding.weight.T
        torch.testing.assert_close(model.write(tokens, model.read(images)), expected, atol=1e-5, rtol=1e-4)
        nothing = before @ model.embedding.weight.T
        assert (expected - nothing).abs().max() > 0.1

    def test_sizes_that_do_not_fit_are_one_sentence(self):
        with pytest.raises(LessonError, match="cannot be cut into 3 heads"):
            Captioner(Shape(16, 9, 16, 3, 1))
        with pytest.raises(LessonError, match="a picture of 17 pixels cannot be cut into places of 8"):
            Captioner(Shape(17, 9, 16, 2, 1))
        with pytest.raises(LessonError, match="a caption of 65 tokens; at most 64"):
            model = Captioner(Shape(16, 9, 16, 2, 1))
            model.write(torch.zeros(1, 65, dtype=torch.int64), model.read(torch.zeros(1, 3, 16, 16)))

    def test_saved_and_loaded_it_says_the_same(self, model, images, tmp_path):
        file, vocabulary = tmp_path / "model.pt", Vocabulary([*SPECIAL, "a", "b", "c", "d"])
        save_network(file, model, vocabulary, source="s", exact=0.5, languages=["en"])
        again, words, about = load_network(file)
        assert torch.equal(write_captions(again, images, "en")[0], write_captions(model, images, "en")[0])
        assert words.tokens == vocabulary.tokens and about == {"source": "s", "exact": 0.5, "languages": ["en"]}

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            ({"shape": [16, 9, 16, 2]}, "is not a network of this project"),
            ({"shape": [16, 8, 16, 2, 2]}, "its words do not belong to its weights"),
            ({"tokens": ["a"] * 9}, "begins with the special tokens"),
            ({"shape": [16, 9, 32, 2, 2]}, "is of another model than Captioner"),
        ],
    )
    def test_files_of_something_else_are_one_sentence(self, model, tmp_path, wrong, told):
        file = tmp_path / "model.pt"
        right = {"tokens": [*SPECIAL, "a", "b", "c", "d"], "shape": list(model.shape), "source": "s", "exact": 0.5}
        checkpoint.save(file, {"model": model.state_dict(), **right, **wrong})
        with pytest.raises(LessonError, match=told):
            load_network(file)
        checkpoint.save(file, {"model": model.state_dict()})
        with pytest.raises(LessonError, match="does not say its tokens, shape, source, exact: train again"):
            load_network(file)


class TestWriting:
    def test_greedy_takes_the_likeliest_word_each_time(self, model, images):
        written, scores = write_captions(model, images, "en", beam=1)
        assert (written[:, 0] == ENGLISH).all() and not (written[:, 1:] == UNKNOWN).any() and not (written[:, 1:] > 8).any()
        for i, (row, score) in enumerate(zip(written, scores, strict=True)):
            logits = model(images[i : i + 1], row[None, None, :-1])[0][0, 0]
            logits[:, [0, 2, 3, 4]] = -torch.inf
            end = (row[1:] == END).nonzero()
            length = int(end[0]) + 1 if len(end) else len(row) - 1
            assert torch.equal(logits[:length].argmax(dim=1), row[1 : length + 1])
            expected = logits[:length].log_softmax(dim=1).gather(1, row[1 : length + 1, None]).sum()
            torch.testing.assert_close(score, expected, atol=1e-4, rtol=1e-4)

    def test_what_has_ended_costs_nothing_more(self):
        model = Brightness()  # says more of a bright picture than of a dark one, and is never quite certain
        pictures = torch.stack([torch.full((3, 56, 56), brightness, dtype=torch.uint8) for brightness in (20, 230)])
        tokens, together = write_captions(model, pictures, "en")
        alone = [write_captions(model, pictures[i : i + 1], "en") for i in (0, 1)]
        torch.testing.assert_close(together, torch.cat([score for _, score in alone]))
        assert alone[0][0].shape[1] < tokens.shape[1] and (tokens[0, alone[0][0].shape[1] :] == END).all()

    def test_wide_beam_finds_the_best_of_all_for_its_length(self, images, monkeypatch):
        torch.manual_seed(21)
        model = Captioner(Shape(16, 7, 16, 2, 1)).eval()
        model.embedding.weight.data *= 4
        monkeypatch.setattr(model, "longest", 3)
        sentences = (
            [[END, END, END]] + [[a, END, END] for a in (5, 6)] + [[a, b, c] for a in (5, 6) for b in (5, 6) for c in (END, 5, 6)]
        )
        every = []  # (log-probability, tokens with END, sentence)
        for sentence in sentences:
            tokens = torch.tensor([[ENGLISH, *sentence]])
            logits = model.write(tokens[:, :-1], model.read(images[:1]))[0]
            logits[:, [0, 2, 3, 4]] = -torch.inf
            logs = logits.log_softmax(dim=1).gather(1, tokens[0, 1:, None]).flatten()
            length = sentence.index(END) + 1 if END in sentence else 3
            every.append((logs[:length].sum().item(), sum(token != END for token in sentence) + 1, sentence))
        chosen = []
        for alpha in (0.0, 0.7):
            found, score = write_captions(model, images[:1], "en", beam=27, alpha=alpha)
            likely, _, best = max(every, key=lambda one, alpha=alpha: one[0] / one[1] ** alpha)
            assert score.item() == pytest.approx(likely, abs=1e-4) and found[0, 1:].tolist() == best
            chosen.append(best)
        assert chosen[0] != chosen[1]  # the likeliest is not the best for its length

    def test_beam_is_never_less_likely_than_greedy_here_and_must_be_above_0(self, model, images):
        greedy, wide = (write_captions(model, images, "ko", beam, alpha=0.0)[1] for beam in (1, 5))
        assert (wide >= greedy - 1e-4).all()
        with pytest.raises(LessonError, match="--beam must be above 0"):
            write_captions(model, images, "ko", beam=0)
