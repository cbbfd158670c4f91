"""Gradients through time: by hand they are autograd's, theory predicts them, and a start that keeps them can recall."""

import pytest
import torch
from conftest import lesson
from torch import nn

from utils.lesson import LessonError


@pytest.fixture(scope="module")
def gradients():
    return lesson("05_rnn/vanishing_gradients")


class TestFollowing:
    def test_by_hand_is_autograd(self, gradients):
        assert gradients.compare_with_autograd(size=12, steps=25, seed=1) < 1e-10

    def test_states_are_pytorchs(self, gradients):
        torch.manual_seed(0)
        rnn = nn.RNN(5, 5, bias=False, batch_first=True, dtype=torch.float64)
        nn.init.eye_(rnn.weight_ih_l0)
        inputs = torch.randn(3, 8, 5, dtype=torch.float64)
        states = gradients.read(rnn.weight_hh_l0.detach(), inputs, tanh=True)
        torch.testing.assert_close(torch.stack(states[1:], dim=1), rnn(inputs)[0])
        assert not states[0].any()

    def test_walk_back_by_jacobians(self, gradients):
        generator = torch.Generator().manual_seed(2)
        w = gradients.random_weights(4, 1.0, generator)
        states = gradients.read(w, torch.randn(1, 3, 4, generator=generator, dtype=torch.float64), tanh=True)
        upstream = torch.randn(1, 4, generator=generator, dtype=torch.float64)
        product = torch.eye(4, dtype=torch.float64)
        for h in reversed(states[1:]):
            product = product @ (torch.diag(1 - h[0] ** 2) @ w)
        torch.testing.assert_close(gradients.walk_back(w, states, upstream, tanh=True)[-1], upstream @ product)

    @pytest.mark.parametrize("gain", [0.4, 1.0, 1.6])
    def test_linear_is_the_gain_to_the_power_of_the_distance(self, gradients, gain):
        lengths = gradients.follow(gain, tanh=False, size=100, steps=15, networks=6, seed=3)
        assert lengths[0].item() == pytest.approx(1)
        assert (lengths[15] ** (1 / 15)).item() == pytest.approx(gain, rel=0.04)

    @pytest.mark.parametrize("gain", [0.6, 1.0, 1.3, 2.0])
    def test_tanh_is_as_predicted(self, gradients, gain):
        lengths = gradients.follow(gain, tanh=True, size=100, steps=15, networks=6, seed=3)
        predicted = gradients.predict(gain, 0.3)
        assert predicted < 0.97 * gain
        assert (lengths[15] ** (1 / 15)).item() == pytest.approx(predicted, rel=0.04)

    def test_prediction_where_it_is_known(self, gradients):
        """Without noise and with a gain below 1 all states die away, and tanh is a straight line; large ones only saturate."""
        assert gradients.predict(0.7, 0.0) == pytest.approx(0.7, abs=1e-4)
        assert gradients.predict(0.7, 30.0) < 0.2


class TestStretching:
    def test_each_step_and_the_long_run(self, gradients):
        found = gradients.stretch(64, (1, 40), seed=4)
        torch.testing.assert_close(found["orthogonal"], torch.ones(2, 2, dtype=torch.float64))
        assert found["random"][0, 0] > 1.5  # one step may stretch, though no eigenvalue is above 1 by much
        assert found["random"][1, 0] < 0.75 * found["random"][0, 0] and found["random"][1, 1] < 1e-10


class TestClipping:
    @pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
    def test_is_pytorchs(self, gradients, scale):
        torch.manual_seed(0)
        parameters = [nn.Parameter(torch.zeros(shape)) for shape in ((3, 4), (5,))]
        for parameter in parameters:
            parameter.grad = scale * torch.randn_like(parameter)
        ours = [parameter.grad.clone() for parameter in parameters]
        before = gradients.clip(ours, 2.0)
        torch.testing.assert_close(before, nn.utils.clip_grad_norm_(parameters, 2.0))
        torch.testing.assert_close(ours, [parameter.grad for parameter in parameters])

    def test_direction_stays_and_short_ones_are_left_alone(self, gradients):
        long, short = torch.tensor([30.0, 40.0]), torch.tensor([0.3, 0.4])
        assert gradients.clip([long], 1.0) == 50 and gradients.clip([short], 1.0) == pytest.approx(0.5)
        torch.testing.assert_close(long, torch.tensor([0.6, 0.8]))
        assert short.tolist() == pytest.approx([0.3, 0.4])

    def test_error_is_the_one_everyone_meets(self, gradients):
        difference, message = gradients.compare_clipping(seed=1)
        assert difference < 1e-12
        assert "non-finite" in message


class TestStarts:
    def test_what_they_promise(self, gradients):
        torch.manual_seed(0)
        models = {start: gradients.Recall(start, 24) for start in gradients.STARTS}
        weights = {start: model.rnn.weight_hh_l0.detach() for start, model in models.items()}
        torch.testing.assert_close(weights["orthogonal"] @ weights["orthogonal"].T, torch.eye(24))
        assert torch.equal(weights["identity"], torch.eye(24)) and models["identity"].rnn.nonlinearity == "relu"
        assert weights["default"].std().item() == pytest.approx((1 / 72) ** 0.5, rel=0.1)  # the gain is 1 / √3
        assert not models["orthogonal"].rnn.bias_hh_l0.any() and models["default"].rnn.bias_hh_l0.any()

    def test_task(self, gradients):
        x, symbols = gradients.draw_task(300, 5, torch.Generator().manual_seed(0))
        assert x.shape == (300, 6, 8) and (x.sum(dim=2) == 1).all()
        assert torch.equal(x[:, 0].argmax(dim=1), symbols)
        assert x[:, 1:, :4].sum() == 0  # nothing in between tells of it
        assert symbols.bincount().tolist() == pytest.approx([75] * 4, abs=30)

    def test_share_that_arrives(self, gradients):
        shares = {start: gradients.learn(start, 30, 32, 0, 0.0, 0)[0] for start in gradients.STARTS}
        assert shares["default"] < 1e-5 < 0.02 < min(shares["orthogonal"], shares["identity"])

    @pytest.mark.parametrize("start", ["orthogonal", "identity"])
    def test_recalls_after_20_steps(self, gradients, start):
        assert gradients.learn(start, 20, 64, 250, 0.003, 1)[1] > 0.95

    def test_without_training_it_guesses(self, gradients):
        rights = [gradients.learn(start, 20, 32, 0, 0.003, 1)[1] for start in gradients.STARTS]
        assert rights == pytest.approx([0.25] * 3, abs=0.12)


class TestMain:
    def test_orthogonal_recalls_what_the_default_cannot(self, gradients, monkeypatch):
        monkeypatch.setattr(gradients, "DELAYS", (2, 4, 36))
        results = gradients.main(hidden=64, steps=150, lr=0.003, seeds=1, seed=2)
        assert results["difference"] < 1e-10 and results["factor_error"] < 0.05
        assert results["orthogonal_36"] > 0.9 and results["default_36"] < 0.6

    def test_check_notices_networks_that_do_not_learn(self, gradients, monkeypatch):
        monkeypatch.setattr(gradients, "DELAYS", (1, 2, 3))
        monkeypatch.setattr(gradients, "follow", lambda *_: torch.ones(41))
        monkeypatch.setattr(gradients, "draw_gradients", lambda *_: None)
        with pytest.raises(LessonError, match="more --steps"):
            gradients.main(hidden=32, steps=1, lr=0.003, seeds=1, seed=0)

    def test_check_notices_wrong_flags(self, gradients):
        with pytest.raises(LessonError, match="--seeds"):
            gradients.main(hidden=32, steps=1, lr=0.003, seeds=0, seed=0)

    @pytest.mark.slow  # the claim itself, several seeds of networks over 80 steps: 30 s
    def test_keeps_its_promise(self, gradients):
        results = gradients.main(hidden=64, steps=300, lr=0.003, seeds=3, seed=3)
        far = {start: (results[f"{start}_40"] + results[f"{start}_80"]) / 2 for start in gradients.STARTS}
        assert far["default"] < 0.6 < 0.8 < far["orthogonal"] and far["identity"] > far["default"] + 0.15
