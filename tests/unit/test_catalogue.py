"""utils.catalogue: downloads that end in the right file or in one sentence, against a server on this machine."""

import dataclasses
import errno
import gzip
import hashlib
import http.server
import io
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest
from conftest import everything_in

from utils import catalogue
from utils.catalogue import CATALOGUE, Entry, RemoteFile
from utils.lesson import LessonError

ROOT = Path(__file__).resolve().parents[2]
CONTENT = {"letters": bytes(range(256)) * 400, "answers": b"yes no " * 30}
PACKED = {name: gzip.compress(content) for name, content in CONTENT.items()}


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"a picture " * 50)
    return buffer.getvalue()


PLAIN = "reviews.txt"  # a file that has neither a checksum nor one inside
ARCHIVES = {
    "batches.tar.gz": gzip.compress(bytes(range(256)) * 90),
    "insects.zip": zipped("train/ants/1.jpg", "val/bees/2.jpg"),
    PLAIN: b"good\t1\nbad\t0\n" * 90,
}
HTML = b"<!DOCTYPE html><html><body>Please log in to this network</body></html>"


class Mirrors(http.server.BaseHTTPRequestHandler):
    """Every folder of this server is a mirror that behaves in another way: /good/letters.gz, /silent/letters.gz, ..."""

    def do_GET(self):
        _, behaviour, file = self.path.split("/")
        content = ARCHIVES.get(file) or PACKED[file.removesuffix(".gz")]
        self.server.asked.append(self.path)
        if behaviour == "silent":  # accepts, and says nothing
            self.server.closing.wait()
        elif behaviour == "missing":
            self.send_error(404)
        elif behaviour == "stalls":
            self.answer(content, send=content[:40])
            self.server.closing.wait()
        elif behaviour == "stops":  # promises more than it sends
            self.answer(content, send=content[: len(content) // 2])
        elif behaviour == "login":
            self.answer(HTML)
        elif behaviour == "cut":  # whole, as far as the server knows
            self.answer(content[:-20])
        elif behaviour == "scrambled":
            self.answer(content[:30] + bytes(255 - byte for byte in content[30:]))
        elif behaviour == "spoilt":  # some bytes in the middle of a picture; the zip's list of contents is whole
            self.answer(content[:80] + bytes(255 - byte for byte in content[80:120]) + content[120:])
        elif behaviour == "other":
            self.answer(zipped("train/wasps/1.jpg") if file.endswith("zip") else gzip.compress(b"something else"))
        else:
            time.sleep(0.1 if behaviour == "late" else 0)
            self.answer(content)

    def answer(self, content, send=None):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content if send is None else send)
        self.wfile.flush()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirrors)
    server.asked, server.closing, server.daemon_threads = [], threading.Event(), True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()


def tiny(server, *mirrors) -> Entry:
    return Entry(
        name="tiny",
        title="Two small files",
        licence="our own",
        homepage="",
        folder="tiny/raw",
        files=tuple(
            RemoteFile(name, len(content), hashlib.md5(content).hexdigest(), len(PACKED[name]))
            for name, content in CONTENT.items()
        ),
        mirrors=tuple(f"http://127.0.0.1:{server.server_port}/{mirror}/" for mirror in mirrors),
        places=("tiny/raw/letters",),
        sample="nothing",
    )


@pytest.fixture
def fetch(server, without_data, monkeypatch):
    """Fetch the tiny set from the mirrors that are named; short patience."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(catalogue, "SECONDS_TO_ANSWER", 2.0)  # long enough for a busy machine
    monkeypatch.setattr(catalogue, "SECONDS_OF_SILENCE", 2.0)
    server.asked.clear()

    def fetch(*mirrors):
        monkeypatch.setitem(CATALOGUE, "tiny", tiny(server, *mirrors))
        return catalogue.fetch("tiny")

    return fetch


def whole() -> dict[str, bytes]:
    return {f"tiny/raw/{name}": content for name, content in CONTENT.items()}


class TestSuccess:
    def test_files_are_unpacked_and_nothing_else_is_left(self, fetch, without_data):
        assert catalogue.find("mnist") is None
        assert fetch("good") == without_data / "tiny" / "raw"
        assert everything_in(without_data) == whole()
        assert catalogue.find("tiny") == without_data / "tiny" / "raw" / "letters"

    def test_second_time_asks_nobody(self, fetch, server):
        fetch("good")
        server.asked.clear()
        fetch("good")
        assert server.asked == []

    def test_file_that_is_there_is_kept_whatever_it_is(self, fetch, without_data, server):
        mine = without_data / "tiny" / "raw" / "letters"
        mine.parent.mkdir(parents=True)
        mine.write_bytes(b"my own letters")
        fetch("good")
        assert everything_in(without_data) == {**whole(), "tiny/raw/letters": b"my own letters"}
        assert server.asked == ["/good/answers.gz"]

    @pytest.mark.parametrize("bad", ["silent", "missing", "stalls", "stops", "login", "cut", "scrambled", "other"])
    def test_one_bad_mirror_does_not_matter(self, fetch, without_data, bad):
        started = time.monotonic()
        fetch(bad, "late")  # late: so that the bad one is first, if it says anything
        assert everything_in(without_data) == whole()
        assert time.monotonic() - started < 20

    def test_two_at_once(self, server, without_data):
        code = (
            "import json, sys; from pathlib import Path; from utils import catalogue, paths; from utils.catalogue import *\n"
            "entry = json.loads(sys.argv[2]); entry['files'] = tuple(RemoteFile(**file) for file in entry['files'])\n"
            "paths.ROOT = Path(sys.argv[1]); CATALOGUE['tiny'] = Entry(**entry); print(catalogue.fetch('tiny'))"
        )
        entry = tiny(server, "good")
        described = json.dumps({**vars(entry), "files": [vars(file) for file in entry.files]})
        command = [sys.executable, "-c", code, str(without_data.parent), described]
        environment = {**os.environ, "no_proxy": "127.0.0.1", "PYTHONPATH": str(ROOT)}
        both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(2)]
        assert [(process.communicate(timeout=60)[0] != b"", process.returncode) for process in both] == [(True, 0)] * 2
        assert everything_in(without_data) == whole()


class TestFailure:
    @pytest.mark.parametrize(
        "mirrors, told",
        [
            (["silent", "silent"], "no answer within|timed out"),
            (["missing"], "Not Found"),
            (["login"], "web page instead of data"),
            (["stops"], "incomplete"),
            (["stalls"], "incomplete"),
            (["cut"], "incomplete"),
            (["scrambled"], "incomplete"),
            (["other"], "another checksum"),
            (["other", "silent"], "another checksum"),
        ],
    )
    def test_is_one_sentence_and_leaves_nothing(self, fetch, without_data, mirrors, told):
        started = time.monotonic()
        with pytest.raises(LessonError, match=told) as error:
            fetch(*mirrors)
        assert time.monotonic() - started < 20
        assert "\n" not in str(error.value) and str(error.value).startswith("tiny could not be downloaded")
        assert everything_in(without_data) == {}

    def test_nobody_listens(self, fetch, server, monkeypatch, without_data):
        monkeypatch.setattr(server, "server_port", 1)
        with pytest.raises(LessonError, match="or put the files into datasets/tiny/raw/ yourself, or use --source sample"):
            fetch("good")

    def test_patience_is_short_enough_to_go_on_with_the_sample_in_five_seconds(self):
        assert catalogue.SECONDS_TO_ANSWER < 5

    def test_full_disk(self, fetch, without_data, monkeypatch):
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(catalogue.shutil, "copyfileobj", full)
        with pytest.raises(OSError, match="No space left"):
            fetch("good", "good")
        assert everything_in(without_data) == {}

    def test_files_of_the_user_outlive_a_failure(self, fetch, without_data):
        mine = without_data / "tiny" / "raw" / "answers"
        mine.parent.mkdir(parents=True)
        mine.write_bytes(b"perhaps")
        with pytest.raises(LessonError):
            fetch("other")
        assert everything_in(without_data) == {"tiny/raw/answers": b"perhaps"}


class TestArchives:
    """An archive is kept as it is: the pictures are read out of it."""

    @pytest.fixture
    def fetch(self, fetch, server, monkeypatch):
        def fetch_archive(name: str, *mirrors: str):
            md5 = hashlib.md5(ARCHIVES[name]).hexdigest() if name.endswith(".gz") else None
            members = ("train/ants/", "val/bees/") if name.endswith(".zip") else ()
            file = RemoteFile(name, len(ARCHIVES[name]), md5, members=members)
            entry = dataclasses.replace(tiny(server, *mirrors), files=(file,), places=(f"tiny/raw/{name}",))
            monkeypatch.setitem(CATALOGUE, "tiny", entry)
            return catalogue.fetch("tiny")

        return fetch_archive

    @pytest.mark.parametrize(("mirror", "told"), [("cut", "a file of another size"), ("login", "a web page instead of data")])
    def test_without_any_checksum_the_size_must_be_right(self, fetch, without_data, mirror, told):
        with pytest.raises(LessonError, match=told):
            fetch(PLAIN, mirror)
        assert everything_in(without_data) == {}
        fetch(PLAIN, mirror, "late")
        assert everything_in(without_data) == {f"tiny/raw/{PLAIN}": ARCHIVES[PLAIN]}

    @pytest.mark.parametrize("name", ARCHIVES)
    def test_stays_packed(self, fetch, without_data, server, name):
        fetch(name, "good")
        assert everything_in(without_data) == {f"tiny/raw/{name}": ARCHIVES[name]}
        assert server.asked == [f"/good/{name}"]
        assert catalogue.find("tiny") == without_data / "tiny" / "raw" / name
        assert CATALOGUE["tiny"].bytes == len(ARCHIVES[name])

    @pytest.mark.parametrize("name", sorted(ARCHIVES.keys() - {PLAIN}))
    @pytest.mark.parametrize("bad", ["missing", "stops", "login", "cut", "scrambled", "other"])
    def test_one_bad_mirror_does_not_matter(self, fetch, without_data, bad, name):
        fetch(name, bad, "late")
        assert everything_in(without_data) == {f"tiny/raw/{name}": ARCHIVES[name]}

    @pytest.mark.parametrize(
        "name, bad, told",
        [
            ("batches.tar.gz", "login", "web page instead of data"),
            ("batches.tar.gz", "stops", "incomplete"),
            ("batches.tar.gz", "cut", "another checksum"),
            ("batches.tar.gz", "other", "another checksum"),
            ("insects.zip", "login", "web page instead of data"),
            ("insects.zip", "stops", "incomplete"),
            ("insects.zip", "cut", "incomplete"),
            ("insects.zip", "scrambled", "damaged|incomplete"),
            ("insects.zip", "spoilt", "a zip in which train/ants/1.jpg is damaged"),
            ("insects.zip", "other", "a zip without train/ants/"),
        ],
    )
    def test_failure_is_one_sentence_and_leaves_nothing(self, fetch, without_data, name, bad, told):
        with pytest.raises(LessonError, match=told) as error:
            fetch(name, bad)
        assert "\n" not in str(error.value) and str(error.value).startswith("tiny could not be downloaded")
        assert everything_in(without_data) == {}


class TestFind:
    def test_own_folder_comes_before_the_shared_one(self, without_data, tmp_path, monkeypatch):
        shared = tmp_path / "공유 data"
        for folder in (shared, without_data):
            (folder / "MNIST" / "raw").mkdir(parents=True)
        monkeypatch.setenv("STUDY_DATA_DIR", str(shared))
        for folder in (shared, without_data):
            (folder / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(b"")
            assert catalogue.find("mnist").is_relative_to(folder)

    def test_sizes_add_up(self):
        assert CATALOGUE["mnist"].bytes == 9_912_422 + 28_881 + 1_648_877 + 4_542
        assert CATALOGUE["cifar10"].bytes == 170_498_071

    @pytest.mark.parametrize("name", [name for name, entry in CATALOGUE.items() if entry.files])
    def test_what_is_fetched_is_found(self, without_data, name):
        """The place where a download lands is among those that are searched."""
        folder = without_data / CATALOGUE[name].folder
        folder.mkdir(parents=True)
        for file in CATALOGUE[name].files:
            (folder / file.name).touch()
        assert catalogue.find(name) == folder / CATALOGUE[name].files[0].name

    @pytest.mark.parametrize("name", [name for name, entry in CATALOGUE.items() if not entry.files])
    def test_what_cannot_be_fetched_is_said_to_be_put_there(self, without_data, name):
        place = CATALOGUE[name].places[0]
        with pytest.raises(LessonError, match=f"cannot be fetched from here: get {place} from http") as error:
            catalogue.fetch(name)
        assert "\n" not in str(error.value)
        (without_data / place).parent.mkdir(parents=True, exist_ok=True)
        (without_data / place).touch()
        assert catalogue.find(name) == without_data / place

    @pytest.mark.real_data("mnist")
    def test_official_checksums_are_right(self):
        place = catalogue.find("mnist").parent
        for file in CATALOGUE["mnist"].files:
            if not (place / file.name).exists():
                pytest.skip("the real MNIST here is not in the official files")
            assert ((place / file.name).stat().st_size, catalogue.checksum(place / file.name)) == (file.bytes, file.md5)
