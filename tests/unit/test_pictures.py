"""utils.pictures: any file may come; what is no picture is told in one sentence (project 1's tests have the rest)."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from utils.lesson import LessonError
from utils.pictures import FORMATS, PictureError, check_all_read, open_each, open_picture


def content(form: str = "PNG", size: tuple[int, int] = (40, 30)) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


@pytest.mark.parametrize("form", FORMATS)
def test_opens_every_form_that_it_promises(form, tmp_path):
    (tmp_path / "picture").write_bytes(content(form))
    for source in (content(form), tmp_path / "picture", str(tmp_path / "picture")):
        assert open_picture(source).size == (40, 30)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7])
def test_cut_off_anywhere_is_one_error(form, share):
    whole = content(form, size=(200, 200))
    with pytest.raises(PictureError) as caught:
        open_picture(whole[: int(share * len(whole))])
    assert caught.value.kind in ("damaged", "unreadable")


def test_other_files_are_named():
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.txt", "hello")
    for other in (b"", b"Dear Sir", archive.getvalue(), b"%PDF-1.7\n", b"<svg xmlns='http://www.w3.org/2000/svg'/>"):
        with pytest.raises(PictureError, match="is not a picture") as caught:
            open_picture(other)
        assert caught.value.kind == "unreadable"


def test_photo_of_an_iphone_gets_advice(tmp_path):
    (tmp_path / "IMG_1.HEIC").write_bytes(b"\x00\x00\x00\x24ftypheic\x00\x00\x00\x00mif1heic")
    with pytest.raises(PictureError, match="IMG_1.HEIC is a HEIC photo.*JPEG"):
        open_picture(tmp_path / "IMG_1.HEIC")


def test_missing_file_is_an_ordinary_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_picture(tmp_path / "none.png")


class TestOpenEach:
    def test_goes_on_where_one_cannot_be_used(self, tmp_path):
        files = [tmp_path / name for name in ("none.png", "wide.png", "letter.txt", "small.png")]
        files[1].write_bytes(content(size=(40, 30)))
        files[2].write_bytes(b"Dear Sir")
        files[3].write_bytes(content(size=(4, 3)))

        def prepare(picture):
            if picture.width < 8:
                raise PictureError("too_small", "there is nothing to see in it")
            return picture.width

        failed = []
        found = list(open_each(files, prepare, failed))
        assert [(number, file, picture.size, width) for number, file, picture, width in found] == [(2, files[1], (40, 30), 40)]
        assert len(failed) == 3 and str(files[0]) in failed[0] and f"{files[2]} is not a picture" in failed[1]
        assert failed[2] == f"{files[3]}: there is nothing to see in it"  # what `prepare` says does not name the file
        with pytest.raises(LessonError, match="3 of 4 pictures could not be read"):
            check_all_read(failed, len(files))

    def test_errors_of_the_caller_are_not_the_pictures(self, tmp_path):
        (tmp_path / "a.png").write_bytes(content())
        failed = []
        with pytest.raises(LessonError, match="no more memory"):
            for _ in open_each([tmp_path / "a.png"], lambda picture: picture, failed):
                raise LessonError("no more memory")
        assert failed == []
