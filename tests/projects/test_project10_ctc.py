"""Project 10's CTC: equal to PyTorch's and to counting every way, whatever the case."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from project10_speech import ctc
from utils.lesson import LessonError


def loss_of(log_probs, target, frames=None):
    targets = torch.tensor([list(target)]).long()
    return ctc.ctc_loss(log_probs[:, None], targets, torch.tensor([frames or len(log_probs)]), torch.tensor([len(target)])).item()


class TestLoss:
    @pytest.mark.parametrize("seed", range(5))
    def test_equal_to_pytorch_with_gradients(self, seed):
        found = ctc.compare_with_pytorch(seed=seed, cases=60)
        assert found["loss_difference"] < 2e-5 and found["gradient_difference"] < 5e-5 and found["count_difference"] < 1e-5
        assert 5 < found["do_not_fit"] < 40  # both kinds were among them

    def test_double_precision_is_equal_to_twelve_digits(self):
        log_probs, targets, frames, lengths = ctc.random_cases(torch.Generator().manual_seed(3))
        log_probs = log_probs.double().log_softmax(dim=2)
        theirs = F.ctc_loss(log_probs, targets, frames, lengths, reduction="none")
        torch.testing.assert_close(ctc.ctc_loss(log_probs, targets, frames, lengths), theirs, rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("target", [[], [1], [1, 1], [1, 2, 1], [2, 2, 2], [1, 1, 2]])
    def test_equal_to_counting(self, target):
        log_probs = torch.randn(5, 3, generator=torch.Generator().manual_seed(len(target))).log_softmax(dim=1)
        _, logarithm = ctc.count_all(log_probs, target)
        assert loss_of(log_probs, target) == pytest.approx(-logarithm, abs=1e-5)

    def test_all_strings_together_are_certain(self):
        """Nothing else can be said in three frames with two symbols than these."""
        log_probs = torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).log_softmax(dim=1)
        strings = {tuple(ctc.collapse(way)) for way in itertools.product(range(3), repeat=3)}
        assert sum(math.exp(-loss_of(log_probs, string)) for string in strings) == pytest.approx(1, abs=1e-5)

    def test_empty_target_and_no_frames(self):
        log_probs = torch.randn(4, 3).log_softmax(dim=1)
        assert loss_of(log_probs, []) == pytest.approx(-log_probs[:, 0].sum().item(), abs=1e-5)
        nothing = ctc.ctc_loss(log_probs[:, None], torch.tensor([[1]]), torch.tensor([0]), torch.tensor([0]))
        assert nothing.item() == 0

    def test_what_does_not_fit_is_infinite_and_pulls_at_nothing(self):
        log_probs = torch.randn(6, 2, 4).log_softmax(dim=2).requires_grad_()
        targets, lengths = torch.tensor([[1, 1, 1, 1], [1, 2, 3, 1]]), torch.tensor([4, 4])
        loss = ctc.ctc_loss(log_probs, targets, torch.tensor([6, 6]), lengths)  # four equal ones need seven frames
        assert loss[0].item() == math.inf and loss[1].isfinite()
        loss[1].backward(retain_graph=True)
        assert log_probs.grad[:, 1].abs().sum() > 0
        log_probs.grad = None
        loss.clamp(max=100).sum().backward()
        assert log_probs.grad.isfinite().all() and log_probs.grad[:, 0].abs().sum() == 0

    def test_behind_the_end_nothing_counts(self):
        log_probs = torch.randn(9, 1, 4).log_softmax(dim=2)
        long, short = log_probs.clone(), log_probs[:5]
        long[5:] = float("nan")
        one = ctc.ctc_loss(short, torch.tensor([[1, 2]]), torch.tensor([5]), torch.tensor([2]))
        other = ctc.ctc_loss(long, torch.tensor([[1, 2, 2, 3]]), torch.tensor([5]), torch.tensor([2]))
        assert one.item() == other.item()


class TestAlignment:
    def test_likeliest_way_is_the_best_of_all(self):
        for seed in range(10):
            log_probs = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed)).log_softmax(dim=1)
            for target in ([], [1], [1, 1], [2, 1, 2]):
                ways = [way for way in itertools.product(range(3), repeat=5) if ctc.collapse(way) == target]
                best = max(ways, key=lambda way: sum(log_probs[t, s].item() for t, s in enumerate(way)))
                assert ctc.align(log_probs, target) == list(best)

    def test_equal_to_torchaudio(self):
        functional = pytest.importorskip("torchaudio.functional")
        if not hasattr(functional, "forced_align"):
            pytest.skip("this torchaudio has no forced_align")
        log_probs = torch.randn(1, 30, 6, generator=torch.Generator().manual_seed(0)).log_softmax(dim=2)
        way, _ = functional.forced_align(log_probs, torch.tensor([[3, 3, 1, 5, 2]], dtype=torch.int32))
        assert ctc.align(log_probs[0], [3, 3, 1, 5, 2]) == way[0].tolist()

    def test_occupancy_is_a_probability_and_ends_where_the_way_does(self):
        log_probs = torch.randn(12, 4, generator=torch.Generator().manual_seed(1)).mul(3).log_softmax(dim=1)
        found = ctc.occupancy(log_probs, [2, 2, 1])
        assert found.min() >= 0
        torch.testing.assert_close(found.sum(dim=1), torch.ones(12))
        assert found[:, 3].abs().max() == 0  # 3 is not in the target
        with torch.no_grad():  # as in evaluation
            torch.testing.assert_close(ctc.occupancy(log_probs, [2, 2, 1]), found)

    def test_does_not_fit(self):
        with pytest.raises(LessonError, match="4 symbols do not fit into 3 frames"):
            ctc.align(torch.zeros(3, 5), [1, 2, 3, 4])


class TestDecoding:
    def test_collapse(self):
        assert ctc.collapse([0, 1, 1, 0, 1, 2, 2, 0]) == [1, 1, 2] and ctc.collapse([0, 0]) == ctc.collapse([]) == []

    def test_greedy_can_be_wrong_where_the_beam_is_right(self):
        assert ctc.greedy_can_be_wrong() == ([], [1])

    def test_beam_that_keeps_everything_is_exhaustive(self):
        assert ctc.beam_against_exhaustion(seed=1, tries=10) < 1e-12

    def test_beam_has_the_probabilities_of_the_loss(self):
        log_probs = torch.randn(6, 4, generator=torch.Generator().manual_seed(2)).log_softmax(dim=1)
        found = ctc.beam_search(log_probs, width=10_000)
        assert len({prefix for _, prefix in found}) == len(found)
        for value, prefix in found[:30]:
            assert -value == pytest.approx(loss_of(log_probs, prefix), abs=1e-5)
        assert math.fsum(math.exp(value) for value, _ in found) == pytest.approx(1, abs=1e-6)

    def test_narrow_beam_keeps_its_width_and_its_order(self):
        log_probs = torch.randn(40, 11, generator=torch.Generator().manual_seed(3)).log_softmax(dim=1)
        found = ctc.beam_search(log_probs, width=8)
        assert len(found) == 8 and [value for value, _ in found] == sorted((value for value, _ in found), reverse=True)
        assert found[0][0] <= -loss_of(log_probs, found[0][1]) + 1e-4  # ways were thrown away, none was added

    def test_where_the_network_is_sure_both_agree(self):
        symbols = [0, 3, 3, 0, 0, 3, 1, 1, 0, 2]
        log_probs = torch.full((10, 4), -9.0).scatter(1, torch.tensor(symbols)[:, None], 0.0).log_softmax(dim=1)
        assert ctc.greedy(log_probs) == list(ctc.beam_search(log_probs, width=4)[0][1]) == [3, 3, 1, 2]


class TestMain:
    def test_all_of_it(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv("STUDY_WORK_DIR", str(tmp_path))
        results = ctc.main(frames=24, cases=20, seed=0, figures=True)
        assert results["beam_hears_more"] == results["pytorch_gradient_is_nan"] == 1
        assert results["ways"] == 210 and results["loss_of_knowing_nothing"] == pytest.approx(math.log(3**8 / 210), abs=1e-5)
        assert (tmp_path / "outputs" / "project10_speech" / "ctc_alignment.png").exists()
        assert "loss inf, gradient NaN" in capsys.readouterr().out

    @pytest.mark.parametrize(("flag", "value"), [("frames", 3), ("cases", 0)])
    def test_wrong_flags(self, flag, value):
        with pytest.raises(LessonError, match=f"--{flag} must be"):
            ctc.main(**{"figures": False, flag: value})
