"""utils.datasets.drawn_faces and faces: what is drawn is what was asked, and real sets in their layouts, whole and damaged."""

import numpy as np
import pytest
import torch
from PIL import Image

from utils.datasets import drawn_faces, faces
from utils.datasets.drawn_faces import ATTRIBUTES, NAMES, asked, draw_parameters, render
from utils.lesson import LessonError

PLAIN = torch.tensor([[0, 0, 0, 0, 0.2, 0.5, 0.2, 0, 0.5, 0.5, 0.5, 0.5, 0.6, 0.3]], dtype=torch.float32)


def plain(**changes: float) -> torch.Tensor:
    """A face of 64x64 in which nothing but this is changed, float (3, 64, 64)."""
    parameters = PLAIN.clone()
    for name, value in changes.items():
        parameters[0, NAMES.index(name)] = value
    return render(parameters, 64)[0].float()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("utils.paths.ROOT", tmp_path / "project")
    return tmp_path


def photograph(path, size, seed=0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


class TestDrawn:
    def test_same_for_the_same_seed(self):
        few, again, other = draw_parameters(5, 0), draw_parameters(5, 0), draw_parameters(5, 1)
        assert torch.equal(few, again) and not torch.equal(few, other)
        images = render(few, 32)
        assert images.shape == (5, 3, 32, 32) and images.dtype == torch.uint8
        assert torch.equal(images, render(few, 32)) and torch.equal(images[2:3], render(few[2:3], 32))

    def test_ranges_and_independence(self):
        parameters = draw_parameters(4000, 0)
        for column, attribute in enumerate(ATTRIBUTES):
            assert parameters[:, column].min() >= attribute.low[0] and parameters[:, column].max() <= attribute.high[0]
        assert set(parameters[:, NAMES.index("glasses")].tolist()) == {0.0, 1.0}
        assert (torch.corrcoef(parameters.T) - torch.eye(len(NAMES))).abs().max() < 0.06
        wishes = asked(parameters)
        assert wishes.shape == (4000, 8) and wishes.min() >= -1 and wishes.max() <= 1
        assert wishes.mean(dim=0).abs().max() < 0.05

    def test_glasses_are_dark_rims_around_the_eyes_and_nothing_else(self):
        difference = (plain(glasses=1) - plain(glasses=0)).mean(dim=0)
        assert difference.max() < 60 and difference.min() < -60  # only an eyebrow or a pupil could become lighter
        rows = difference.abs().amax(dim=1).gt(20).nonzero()
        assert 22 < rows.min() and rows.max() < 40

    def test_smile_raises_the_corners_of_the_mouth(self):
        def corner(smile):
            redness = plain(smile=smile)
            red = (redness[0] - redness[1])[40:54, 25:27].sum(dim=1)  # left of the middle
            return (red * torch.arange(14)).sum() / red.sum()

        assert corner(1.0) < corner(0.0) < corner(-1.0)

    def test_light_comes_from_its_side(self):
        face = (slice(None), slice(34, 42), slice(20, 44))
        for light, brighter in ((-1, True), (1, False)):
            left, right = plain(light=light)[face].chunk(2, dim=2)
            assert (left.mean() > right.mean()) == brighter
        assert torch.allclose(plain(light=0)[face].mean(), plain(light=1)[face].mean(), atol=6)

    def test_turning_is_mirrored_by_turning_the_other_way(self):
        left, right = plain(turn=-1), plain(turn=1)
        torch.testing.assert_close(left, right.flip(2), atol=2, rtol=0)
        assert (left - plain(turn=0)).abs().mean() > 4

    def test_skin_hair_length_and_width(self):
        assert plain(skin=1)[:, 36:42, 28:36].mean() < plain(skin=0)[:, 36:42, 28:36].mean() - 80
        assert plain(hair=1)[:, 13:16, 28:36].mean() > plain(hair=0)[:, 13:16, 28:36].mean() + 80
        assert plain(length=1)[:, 46:50, 14:18].mean() < plain(length=0)[:, 46:50, 14:18].mean() - 40
        changed = (plain(width=1) - plain(width=-1)).abs().sum(dim=0)
        assert changed[30:40].sum() > 4 * changed[:8].sum()


class TestSets:
    def test_drawn_splits_share_no_face(self):
        data = faces.drawn(30, 32, held=20)
        assert (len(data.train), len(data.validation), len(data.test)) == (30, 20, 20)
        assert data.attributes == [attribute.name for attribute in ATTRIBUTES] and not data.is_real
        everything = torch.cat([split.images for split in (data.train, data.validation, data.test)]).flatten(1)
        assert len(everything.unique(dim=0)) == 70
        assert torch.equal(faces.drawn(30, 32, held=20).test.images, data.test.images)  # from the cache

    def test_olivetti(self, folder):
        (folder / "olivetti").mkdir()
        pixels = np.arange(400 * 64 * 64, dtype=np.uint32).reshape(400, 64, 64) % 251
        np.save(folder / "olivetti" / "olivetti_faces.npy", pixels.astype(np.uint8))
        data = faces.faces("auto", 32)
        assert data.name == "olivetti" and data.is_real and data.attributes == []
        assert (len(data.train), len(data.validation), len(data.test)) == (280, 40, 80)
        assert data.train.images.shape == (280, 1, 32, 32) and data.train.wishes.shape == (280, 0)
        np.save(folder / "olivetti" / "olivetti_faces.npy", (pixels / 255).astype(np.float32))  # as scikit-learn keeps them
        assert (faces.faces("olivetti", 32).train.images.int() - data.train.images.int()).abs().max() <= 1

    def test_olivetti_as_matlab_wrote_it(self, folder):
        savemat = pytest.importorskip("scipy.io").savemat
        (folder / "olivetti").mkdir()
        pixels = np.random.default_rng(0).integers(0, 255, (400, 64, 64), dtype=np.uint8)
        savemat(folder / "olivetti" / "olivettifaces.mat", {"faces": pixels.transpose(0, 2, 1).reshape(400, 4096).T})
        found = faces.faces("olivetti", 64)
        assert torch.equal(found.test.images[0, 0], torch.from_numpy(pixels[8]))

    @pytest.mark.parametrize(
        ("content", "told"), [(b"no pixels", "cannot be read"), (b"", "cannot be read"), (None, r"found \(3, 8, 8\)")]
    )
    def test_damaged_olivetti(self, folder, content, told):
        file = folder / "olivetti" / "olivetti_faces.npy"
        file.parent.mkdir()
        if content is None:
            np.save(file, np.zeros((3, 8, 8), np.uint8))
        else:
            file.write_bytes(content)
        before = file.read_bytes()
        with pytest.raises(LessonError, match=told):
            faces.faces("olivetti")
        assert file.read_bytes() == before

    def test_lfw_keeps_people_apart(self, folder):
        for person in range(130):
            photograph(folder / "lfw" / f"Person_{person:03}" / f"Person_{person:03}_0001.jpg", (250, 250), person)
        data = faces.faces("lfw", 32)
        assert (len(data.train), len(data.validation), len(data.test)) == (104, 13, 13)
        assert data.train.images.shape[1:] == (3, 32, 32) and "130 people" in data.source

    def test_celeba(self, folder):
        known = make_celeba(folder)
        data = faces.faces("celeba", 32)
        assert data.attributes == list(faces.CELEBA_ATTRIBUTES) and len(data.train) == 100
        assert (len(data.validation), len(data.test)) == (3, 2)
        assert data.train.wishes[0].tolist() == known[0] and set(data.train.wishes.unique().tolist()) == {-1, 1}

    @pytest.mark.parametrize(
        ("harm", "told"),
        [
            (lambda place: (place / "celeba/list_attr_celeba.txt").unlink(), "attributes cannot be read"),
            (lambda place: cut(place / "celeba/list_attr_celeba.txt"), "is it cut off"),
            (lambda place: (place / "celeba/list_attr_celeba.txt").write_text("2\nSmiling\n"), "should hold 40 names"),
            (lambda place: photograph(place / "celeba/img_align_celeba/000002.jpg", (64, 64)), "64x64 pixels, and the official"),
            (lambda place: cut(place / "celeba/img_align_celeba/000003.jpg"), "cut off or damaged|damaged"),
        ],
    )
    def test_damaged_celeba(self, folder, harm, told):
        make_celeba(folder)
        harm(folder)
        with pytest.raises(LessonError, match=told):
            faces.faces("celeba", 32)

    def test_not_there(self, folder):
        with pytest.raises(LessonError, match="lfw is not there: get it from https"):
            faces.faces("lfw")
        assert faces.find("celeba") is None

    def test_unfinished_set(self, folder):
        photograph(folder / "lfw" / "Ada" / "Ada_0001.jpg", (250, 250))
        with pytest.raises(LessonError, match="1 pictures to learn from, and at least 100 are needed"):
            faces.faces("lfw")


def make_celeba(folder) -> list[list[int]]:
    """A small CelebA: 100 + 3 + 2 pictures in the official parts; returns the chosen attributes."""
    numbers = [*range(1, 101), 162_771, 162_772, 162_773, 182_638, 182_639]
    names = [f"Other_{i}" for i in range(35)] + list(faces.CELEBA_ATTRIBUTES)
    values = np.random.default_rng(0).choice([-1, 1], (len(numbers), 40))
    lines = [f"{number:06}.jpg {' '.join(map(str, row))}" for number, row in zip(numbers, values, strict=True)]
    for number in numbers:
        photograph(folder / "celeba" / "img_align_celeba" / f"{number:06}.jpg", (178, 218), number)
    table = folder / "celeba" / "list_attr_celeba.txt"
    table.write_text("\n".join([str(len(numbers)), " ".join(names), *lines]) + "\n", encoding="utf-8")
    return values[:, 35:].tolist()


def cut(file) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2 + 1])


@pytest.mark.skipif(faces.find("olivetti") is None, reason="needs the Olivetti faces in datasets/ or $STUDY_DATA_DIR")
def test_real_olivetti():
    data = faces.faces("olivetti", 32)
    assert len(data.train) == 280 and 80 < data.train.images.float().mean() < 160


def test_drawn_faces_have_as_many_names_as_numbers():
    assert draw_parameters(1, 0).shape == (1, len(NAMES)) == (1, 8 + len(drawn_faces.NUISANCES))
