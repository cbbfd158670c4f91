"""Project 6's parts: eigenfaces against a full decomposition, both networks, directions, the reader, and the studio."""

import math

import pytest
import torch
from projects.faces_world import CPU, a_quick_reader, facts, few_faces, photographs, studio, untrained

from project6_faces import directions
from project6_faces import model as project
from project6_faces import reader as judges
from project6_faces.data import coded_batches, pictures, shape_for, some_wishes, with_mirrored
from project6_faces.directions import PIXELS, find_directions
from project6_faces.model import Diffusion, Gan, Shape, follow, load_network, save_network, signal_left
from project6_faces.train import LOSSES, diffusion_loss, gan_loss, make_optimizer
from utils.lesson import LessonError


@pytest.fixture(scope="module")
def data():
    return few_faces()


class TestEigenfaces:
    def test_directions_are_those_of_a_full_decomposition(self, data):
        images = pictures(data.train.images)
        model = untrained("diffusion", data)
        flat = images.flatten(1)
        _, values, vectors = torch.linalg.svd(flat - flat.mean(dim=0), full_matrices=False)
        coded = model.eigenfaces.decode(model.eigenfaces.encode(images)).flatten(1)
        lost = (coded - flat).square().sum()
        assert lost == pytest.approx(values[128:].square().sum().item(), rel=0.02)  # no 128 directions lose less
        assert (vectors[0] @ model.eigenfaces.directions[:, 0]).abs() > 0.9999

    def test_codes_have_variance_1_and_are_scaled_half_way(self, data):
        model = untrained("diffusion", data)
        images = pictures(data.train.images)
        codes = model.eigenfaces.encode(images)
        assert codes.std().item() == pytest.approx(1, abs=1e-3) and codes.mean(dim=0).abs().max() < 1e-4
        raw = (images.flatten(1) - model.eigenfaces.mean) @ model.eigenfaces.directions
        ratio = (raw.std(dim=0)[0] / raw.std(dim=0)[60]).item()
        assert (codes.std(dim=0)[0] / codes.std(dim=0)[60]).item() == pytest.approx(math.sqrt(ratio), rel=0.02)

    def test_same_every_time_and_leaves_the_generator_alone(self, data):
        first = untrained("gan", data).eigenfaces.directions
        torch.manual_seed(7)
        expected = torch.rand(1)
        torch.manual_seed(7)
        second = project.Eigenfaces(shape_for(data, 32, 1))
        second.learn(pictures(data.train.images))
        assert torch.equal(torch.rand(1), expected) and torch.equal(first, second.directions)

    def test_few_faces_have_short_codes(self):
        assert shape_for(photographs(), 32, 1) == Shape(32, 1, 1, 60, 0)


class TestDiffusion:
    def test_noise_is_added_as_the_schedule_says(self, data):
        model = untrained("diffusion", data)
        torch.manual_seed(0)
        codes = torch.full((4000, 128), 2.0)
        noisy, t, velocity = model.noisy(codes)
        signal, rest = model.left[t].sqrt()[:, None], (1 - model.left[t]).sqrt()[:, None]
        torch.testing.assert_close(signal * noisy - rest * velocity, codes, atol=1e-4, rtol=0)
        noise = rest * noisy + signal * velocity
        assert abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01
        assert t.min() == 1 and t.max() == project.TIMES

    def test_schedule_goes_from_1_to_nearly_0(self):
        left = signal_left(200)
        assert left[0] == 1 and left[-1] < 1e-3 and (left[1:] < left[:-1]).all()
        assert left[100].item() == pytest.approx(math.cos((0.5 + 0.008) / 1.008 * math.pi / 2) ** 2, rel=0.01)

    def test_who_knows_the_velocity_arrives_at_the_code(self, data):
        """A network that always knows the one code there is leads from any noise to it."""
        model = untrained("diffusion", data)
        code = model.eigenfaces.encode(pictures(data.train.images[:1]))

        class Knows(torch.nn.Module):
            def forward(self, x, t, wishes, heard):
                signal, rest = model.left[t].sqrt()[:, None], (1 - model.left[t]).sqrt()[:, None]
                noise = (x - signal * code) / rest
                return signal * noise - rest * code

        model.average = Knows()
        made = model.draw(torch.randn(3, 128), torch.zeros(3, 8))
        torch.testing.assert_close(made, model.eigenfaces.decode(code).clamp(0, 1).expand(3, -1, -1, -1), atol=2e-3, rtol=0)

    def test_guidance_leads_away_from_what_nobody_asked_for(self, data):
        model = untrained("diffusion", data)
        for block in model.average.blocks:
            torch.nn.init.normal_(block.last.weight, std=0.1)  # untrained, what is told changes nothing
        wishes, noise = torch.ones(2, 8), torch.randn(2, 128)
        asked, stronger = (model.draw(noise, wishes, guidance) for guidance in (1.0, 3.0))
        unasked = model.draw(noise, wishes, 0.0)
        assert not torch.equal(asked, stronger) and not torch.equal(asked, unasked)
        assert torch.equal(unasked, model.draw(noise, -wishes, 0.0))  # who is not heard may wish what they like


class TestLosses:
    @pytest.mark.parametrize("kind", ["diffusion", "gan"])
    def test_every_weight_learns_and_the_average_follows(self, data, kind):
        model = untrained(kind, data).train()
        torch.manual_seed(0)
        batch = next(iter(coded_batches(data, model.eigenfaces, 32, 5, CPU, 0)))
        optimizer = make_optimizer(model, 1e-2)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        for _ in range(3):
            loss = LOSSES[kind](model, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for name, value in model.named_parameters():
            if not name.startswith("average"):
                assert not torch.equal(value, before[name]), name
        moved = (model.average.state_dict()[name] - before[f"average.{name}"] for name in model.net.state_dict())
        assert any(difference.abs().max() > 0 for difference in moved if difference.is_floating_point())
        assert model.average.state_dict().keys() == model.net.state_dict().keys()

    def test_each_player_learns_from_its_own_loss_only(self, data):
        """The generator's gradient is that of fooling alone, the discriminator's that of finding out alone."""
        model = untrained("gan", data).train()
        batch = next(iter(coded_batches(data, model.eigenfaces, 32, 5, CPU, 0)))
        torch.manual_seed(0)
        gan_loss(model, batch).backward()
        together = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
        assert set(together) == {name for name, _ in model.named_parameters() if not name.startswith("average")}

        model = untrained("gan", data).train()
        codes, wishes = batch
        asked = wishes.roll(1, dims=0)
        torch.manual_seed(0)
        fake = model.net(torch.randn(32, model.noise), asked)
        real_logits, read = model.discriminator(codes)
        fake_logits, _ = model.discriminator(fake.detach())
        loss = torch.nn.functional.softplus(-real_logits).mean() + torch.nn.functional.softplus(fake_logits).mean()
        loss = loss + torch.nn.functional.mse_loss(read, wishes)
        loss.backward()
        for name, value in model.discriminator.named_parameters():
            torch.testing.assert_close(together[f"discriminator.{name}"], value.grad, atol=1e-6, rtol=1e-4)
        assert all(value.grad is None for value in model.net.parameters())
        logits, seen = model.discriminator(fake)
        fooling = torch.nn.functional.softplus(-logits).mean() + torch.nn.functional.mse_loss(seen, asked)
        names, weights = zip(*model.net.named_parameters(), strict=True)
        for name, gradient in zip(names, torch.autograd.grad(fooling, weights), strict=True):
            torch.testing.assert_close(together[f"net.{name}"], gradient, atol=1e-5, rtol=1e-3)

    def test_where_nothing_is_known_nothing_is_asked(self):
        data = photographs()
        for kind in ("gan", "diffusion"):
            model = untrained(kind, data).train()
            batch = next(iter(coded_batches(data, model.eigenfaces, 16, 5, CPU, 0)))
            assert torch.isfinite(LOSSES[kind](model, batch))
            assert model.eval().draw(torch.randn(2, model.noise), torch.zeros(2, 0)).shape == (2, 1, 32, 32)

    @pytest.mark.parametrize("kind", ["diffusion", "gan"])
    def test_what_draws_is_the_average(self, data, kind):
        model = untrained(kind, data)
        noise, wishes = torch.randn(2, model.noise), torch.zeros(2, 8)
        drawn = model.draw(noise, wishes)
        for values in model.net.state_dict().values():
            values.zero_()
        assert torch.equal(model.draw(noise, wishes), drawn)
        for values in model.average.state_dict().values():
            values.zero_()
        assert not torch.equal(model.draw(noise, wishes), drawn)

    def test_average_by_hand(self):
        one, other = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
        with torch.no_grad():
            other.weight.fill_(3.0)
            other.running_mean.fill_(1.0)
            other.num_batches_tracked.fill_(9)
        follow(one, other, keep=0.75)
        assert one.weight.tolist() == [1.5, 1.5] and one.running_mean.tolist() == [0.25, 0.25]
        assert one.num_batches_tracked == 9

    def test_a_share_of_the_faces_is_deaf(self, data, monkeypatch):
        model, heard = untrained("diffusion", data), []
        monkeypatch.setattr(model.net, "forward", lambda x, t, wishes, ears: heard.append(ears) or x)
        diffusion_loss(model, (torch.zeros(4000, 128), torch.zeros(4000, 8)))
        assert heard[0].mean().item() == pytest.approx(0.9, abs=0.02)


class TestData:
    def test_real_faces_are_mirrored_and_drawn_ones_are_not(self, data):
        images, wishes = with_mirrored(photographs())
        assert len(images) == len(wishes) == 240 and torch.equal(images[120], images[0].flip(2))
        assert len(with_mirrored(data)[0]) == 400

    def test_an_epoch_has_about_as_many_steps_as_asked(self, data):
        model = untrained("gan", data)
        assert len(coded_batches(data, model.eigenfaces, 50, 40, CPU, 0)) == 40
        assert len(coded_batches(data, model.eigenfaces, 1000, 1, CPU, 0)) == 1  # larger than the set: one batch of all

    def test_wishes_are_of_no_training_or_test_face(self, data):
        wishes = some_wishes(data, 50, 0)
        known = {tuple(row) for row in data.validation.wishes.tolist()}
        assert all(tuple(row) in known for row in wishes.tolist())


class TestDirections:
    def test_finds_the_one_that_was_hidden(self):
        """Noise 0 moves the background from blue to red, noise 1 a little brightness, all others nothing."""
        hidden = torch.nn.functional.normalize(torch.tensor([1.0, 1.0, 0.0, 0.0]), dim=0)

        class Painter(torch.nn.Module):
            noise = 4

            def __init__(self):
                super().__init__()
                self.unused = torch.nn.Parameter(torch.zeros(1))

            def draw(self, noise, wishes):
                red = (noise @ hidden)[:, None, None]
                picture = torch.full((len(noise), 3, 32, 32), 0.5)
                picture[:, 0, :5] += 0.1 * red
                picture[:, 2, :5] -= 0.1 * red
                picture[:, :, 10:20] += 0.02 * noise[:, 2, None, None, None]
                return picture

        first, second = find_directions(Painter(), torch.zeros(0), 2, None, [])
        torch.testing.assert_close(first.vector, hidden, atol=1e-3, rtol=0)  # towards red, not towards blue
        assert first.name == "red background"
        assert first.change > second.change > 0.005 and first.effects["red background"] > 1

    def test_measures_are_as_named(self):
        plain = torch.full((1, 3, 32, 32), 0.5)
        picture = plain.clone()
        picture[:, 0, 28:] = 1.0
        found = {name: (measure(picture) - measure(plain)).item() for name, measure in PIXELS.items()}
        assert max(found, key=found.get) == "red clothes" and abs(found["light from the right"]) < 1e-5
        grey = {name: measure(picture[:, :1]).item() for name, measure in PIXELS.items()}
        assert grey["red clothes"] == grey["green background"] == 0

    def test_directions_are_at_right_angles(self, data):
        found = find_directions(untrained("gan", data), torch.zeros(8), 3, None, [])
        vectors = torch.stack([one.vector for one in found])
        torch.testing.assert_close(vectors @ vectors.T, torch.eye(len(found)), atol=1e-4, rtol=0)
        assert 1 < len({one.name for one in found}) == len(found) <= 3

    def test_every_name_is_given_once(self, data, monkeypatch):
        names = iter(["hair", "hair", "smile", "hair", "width"])
        given = lambda model, vector, *_: directions.Direction(vector, 1.0, next(names), {})  # noqa: E731
        monkeypatch.setattr(directions, "_measured", given)
        found = find_directions(untrained("gan", data), torch.zeros(8), 3, None, [])
        assert [one.name for one in found] == ["hair", "smile", "width"]


class TestReader:
    def test_reads_faces_it_has_never_seen(self, data):
        reader = a_quick_reader()
        read, truth = reader.read(pictures(data.test.images)), data.test.wishes
        firm = truth.abs() > 0.8
        right = ((read * truth > 0) & firm).sum(dim=0) / firm.sum(dim=0)
        assert right.mean() > 0.9 and right[2] > 0.9  # glasses
        assert reader.features(pictures(data.test.images)).shape == (200, judges.FEATURES)

    def test_leaves_the_generator_alone(self, data):
        torch.manual_seed(3)
        expected = torch.rand(1)
        torch.manual_seed(3)
        first = judges.train_reader(data, steps=2)
        assert torch.equal(torch.rand(1), expected)
        images = pictures(data.test.images[:5])
        assert torch.equal(first.read(images), judges.train_reader(data, steps=2).read(images))

    def test_space_is_named_and_for_photographs_it_says_of_what(self, data, monkeypatch):
        monkeypatch.setattr(judges, "faces", lambda name: data)
        monkeypatch.setattr(judges, "train_reader", lambda data, steps=2: judges.Reader(3, 8).eval())
        assert "reads turn, smile, glasses" in judges.space_for(data).name
        monkeypatch.setattr(judges.EFFICIENTNET_LITE0.__class__, "find", lambda self: None)
        space = judges.space_for(photographs())
        assert "drawn faces" in space.name and space.reader is None
        assert space.features(torch.rand(3, 1, 32, 32)).shape == (3, 64)


class TestFile:
    @pytest.mark.parametrize("kind", ["diffusion", "gan"])
    def test_comes_back_as_it_was(self, data, tmp_path, kind):
        model = untrained(kind, data)
        save_network(tmp_path / "m.pt", model, **facts(model, data))
        again, about = load_network(tmp_path / "m.pt")
        assert type(again) is {"diffusion": Diffusion, "gan": Gan}[kind] and about["kind"] == kind
        noise, wishes = torch.randn(2, model.noise), torch.zeros(2, 8)
        assert torch.equal(again.draw(noise, wishes), model.draw(noise, wishes))

    @pytest.mark.parametrize(
        ("changed", "told"),
        [
            ({"names": ["one"]}, "do not belong to its weights"),
            ({"attributes": ["smile"]}, "do not belong to its weights"),
            ({"shape": [1, 2]}, "is not a network of this project"),
            ({"kind": "vae"}, "is not a network of this project"),
        ],
    )
    def test_wrong_files_are_one_sentence(self, data, tmp_path, changed, told):
        model = untrained("gan", data)
        save_network(tmp_path / "m.pt", model, **facts(model, data))
        torch.save({**torch.load(tmp_path / "m.pt", weights_only=True), **changed}, tmp_path / "m.pt")
        with pytest.raises(LessonError, match=told):
            load_network(tmp_path / "m.pt")

    def test_no_network_yet_and_one_of_another_project(self, tmp_path):
        with pytest.raises(LessonError, match="python -m study run faces"):
            load_network(None)
        torch.save({"model": {}}, tmp_path / "m.pt")
        with pytest.raises(LessonError, match="does not say its kind, shape"):
            load_network(tmp_path / "m.pt")
        (tmp_path / "m.pt").write_bytes(b"PK no")
        with pytest.raises(LessonError, match="damaged|not a checkpoint"):
            load_network(tmp_path / "m.pt")


class TestStudio:
    def test_draws_and_finds_the_nearest(self, data):
        made = (somebody := studio("gan", data)[0]).draw([0.0] * 8, [0.0] * 3, 1)
        assert made.face.shape == (3, 32, 32) and len(made.read) == 8
        distances = (pictures(data.train.images) - made.face).flatten(1).square().mean(dim=1).sqrt()
        assert made.distance == pytest.approx(distances.min().item(), rel=1e-4)
        assert torch.equal(made.nearest, pictures(data.train.images)[distances.argmin()])
        again, other = somebody.draw([0.0] * 8, [0.0] * 3, 1), somebody.draw([0.0] * 8, [0.0] * 3, 2)
        assert torch.equal(again.face, made.face) and not torch.equal(other.face, made.face)
        assert not torch.equal(somebody.draw([0.0] * 8, [0.0, 2.0, 0.0], 1).face, made.face)

    def test_seed_decides_nothing_along_the_directions(self, data):
        somebody, _ = studio("gan", data)
        seen = []
        somebody.model.draw = lambda noise, wishes: seen.append(noise) or torch.zeros(1, 3, 32, 32)
        somebody.draw([0.0] * 8, [1.5, 0.0, -2.0], 4)
        torch.testing.assert_close(seen[0] @ somebody.directions.T, torch.tensor([[1.5, 0.0, -2.0]]), atol=1e-4, rtol=0)

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            ({"wishes": [0.0]}, "wishes: 8 numbers were expected, and 1 came"),
            ({"wishes": [0.0] * 7 + [1.5]}, "wishes: each number lies between -1 and 1"),
            ({"walk": [0.0, float("nan"), 0.0]}, "walk: each number lies between -3 and 3"),
            ({"walk": [0.0] * 4}, "walk: 3 numbers"),
            ({"seed": -1}, "a seed lies between"),
        ],
    )
    def test_wrong_numbers_are_one_sentence(self, data, wrong, told):
        with pytest.raises(LessonError, match=told):
            studio("gan", data)[0].draw(**({"wishes": [0.0] * 8, "walk": [0.0] * 3, "seed": 0} | wrong))
