"""utils.web: a page that lets nothing in, errors in one sentence, and a port that is there."""

import asyncio
import base64
import hashlib
import logging
import re
import socket
import threading
import time
from http.client import HTTPConnection

import httpx
import pytest
import uvicorn
from fastapi import Request
from projects.serving import check_both_languages_say_the_same

from utils import web
from utils.lesson import LessonError
from utils.pictures import PictureError

HTML = "<html><style>p { color: red; }</style><p>안녕</p><script>let a = 1;</script><script>a += 1;</script></html>\n"


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.html"
    path.write_text(HTML, encoding="utf-8")
    return path


@pytest.fixture
def app(page):
    app = web.create_app("Test", page)

    @app.post("/length")
    async def length(request: Request) -> dict:
        return {"length": len(await web.read_body(request, most_bytes=1000))}

    @app.get("/fail/{kind}")
    async def fail(kind: str) -> dict:
        raise PictureError(kind, "it cannot be used") if kind != "other" else LessonError("train first")

    return app


class Client:
    """Asks an application without a network."""

    def __init__(self, app, base_url: str = "http://127.0.0.1:8000"):
        self.app, self.base_url = app, base_url

    def request(self, method: str, path: str, **settings) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=self.base_url) as client:
                return await client.request(method, path, **settings)

        return asyncio.run(ask())

    def get(self, path: str, **settings) -> httpx.Response:
        return self.request("GET", path, **settings)

    def post(self, path: str, **settings) -> httpx.Response:
        return self.request("POST", path, **settings)


@pytest.fixture
def client(app):
    return Client(app)


class TestPage:
    def test_is_sent_as_it_is(self, client):
        response = client.get("/")
        assert response.text == HTML
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert response.headers["x-content-type-options"] == "nosniff"

    def test_only_its_own_script_and_style_may_run(self, client):
        policy = client.get("/").headers["content-security-policy"]
        rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
        assert rules["default-src"] == "'none'"
        for name, texts in (("script-src", ("let a = 1;", "a += 1;")), ("style-src", ("p { color: red; }",))):
            hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
            assert rules[name] == " ".join(f"'sha256-{each}'" for each in hashes)
        assert "unsafe" not in policy and "http" not in policy

    @pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000"])
    def test_own_names(self, client, host):
        assert client.get("/", headers={"Host": host}).status_code == 200

    def test_other_names_only_when_wanted(self, client, page):
        assert client.get("/", headers={"Host": "evil.example"}).status_code == 400
        open_to_all = Client(web.create_app("Test", page, only_this_computer=False))
        assert open_to_all.get("/", headers={"Host": "classroom.example"}).status_code == 200

    def test_no_pages_of_documentation(self, client):
        assert {client.get(path).status_code for path in ("/docs", "/redoc", "/openapi.json")} == {404}


class TestErrors:
    @pytest.mark.parametrize(("kind", "status"), [("too_large", 413), ("unreadable", 415), ("damaged", 422), ("blank", 422)])
    def test_one_sentence_with_a_kind(self, client, kind, status):
        response = client.get(f"/fail/{kind}")
        assert response.status_code == status
        assert response.json() == {"error": "it cannot be used", "kind": kind}

    def test_of_any_other_kind(self, client):
        response = client.get("/fail/other")
        assert (response.status_code, response.json()) == (422, {"error": "train first", "kind": "other"})


class TestBody:
    @pytest.mark.parametrize("size", [0, 1, 1000])
    def test_up_to_the_limit(self, client, size):
        assert client.post("/length", content=b"x" * size).json() == {"length": size}

    def test_above_it(self, client):
        response = client.post("/length", content=b"x" * 1001)
        assert (response.status_code, response.json()["kind"]) == (413, "too_large")
        assert "0.001 MB" in response.json()["error"]

    def test_in_chunks_without_an_announced_length(self, client):
        async def chunks(*sizes: int):
            for size in sizes:
                yield b"x" * size

        assert client.post("/length", content=chunks(600, 400)).json() == {"length": 1000}
        assert client.post("/length", content=chunks(600, 600)).status_code == 413

    @pytest.mark.parametrize("announced", ["1001", "99999999999"])
    def test_announced_is_enough(self, client, announced):
        assert client.post("/length", content=b"x", headers={"Content-Length": announced}).status_code == 413


class TestExamples:
    def test_are_picked_once_though_two_ask_at_the_same_time(self, app):
        picked = []

        def pick() -> list[dict]:
            time.sleep(0.05)  # reading a data set takes its time
            picked.append(len(picked))
            return [{"digit": 3}]

        async def two_at_once() -> list[httpx.Response]:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
                return await asyncio.gather(client.get("/examples"), client.get("/examples"))

        web.serve_examples(app, pick)
        assert picked == []  # not before somebody asks
        assert [response.json() for response in asyncio.run(two_at_once())] == [[{"digit": 3}]] * 2
        assert picked == [0]


class TestInTurn:
    def test_one_after_the_other_and_too_many_are_told(self):
        line, at_work = web.InTurn("pictures", most_waiting=2), []

        def work(number: int) -> dict:
            at_work.append(number)
            time.sleep(0.02)
            alone = at_work == [number]
            at_work.remove(number)
            return {"number": number, "alone": alone}

        async def five_at_once() -> list:
            return await asyncio.gather(*(line.do(work, number) for number in range(5)), return_exceptions=True)

        for _ in range(2):  # there is room again
            answers = asyncio.run(five_at_once())
            assert answers[:3] == [{"number": number, "alone": True} for number in range(3)]  # one at work, two wait
            assert [error.kind for error in answers[3:]] == ["busy", "busy"]
            assert str(answers[3]) == "3 pictures are waiting already; try again in a moment"

    def test_what_fails_makes_room_too(self):
        line = web.InTurn("pictures", most_waiting=0)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                asyncio.run(line.do(divmod, 1, 0))


class TestListening:
    def test_free_port(self):
        with web.listen("127.0.0.1", 0) as listening:
            assert listening.getsockname()[1] > 0

    def test_port_that_is_taken(self):
        with web.listen("127.0.0.1", 0) as first:
            port = first.getsockname()[1]
            with pytest.raises(LessonError, match=f"port {port} of 127.0.0.1 is taken.*--port"):
                web.listen("127.0.0.1", port)

    @pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 65_536), ("127.0.0.1", -1), ("no.such.host.invalid", 0)])
    def test_places_that_do_not_exist(self, host, port):
        with pytest.raises(LessonError, match="--port"):
            web.listen(host, port)

    def test_nothing_waits_for_an_acknowledgement(self):
        with web.listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
            accepted, _ = listening.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


class TestServing:
    @pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1"])
    def test_says_where_it_is_and_is_there(self, app, host, capsys, monkeypatch):
        servers = []

        class Server(uvicorn.Server):  # to stop it from here, as Ctrl-C would
            def __init__(self, config):
                super().__init__(config)
                servers.append(self)

        monkeypatch.setattr(uvicorn, "Server", Server)
        try:
            listening = web.listen(host, 0)
        except LessonError:
            pytest.skip(f"this computer has no {host}")
        port = listening.getsockname()[1]
        with listening:
            thread = threading.Thread(target=web.serve, args=(app, listening, host))
            thread.start()
            near = host if host == "::1" else "127.0.0.1"
            connection = HTTPConnection(near, port, timeout=20)
            connection.request("GET", "/")
            assert connection.getresponse().status == 200
            connection.close()
            servers[0].should_exit = True
            thread.join(20)
        assert not thread.is_alive()
        said = capsys.readouterr().out
        shown = re.search(r"open +(http://\S+)", said)[1]
        assert shown == (f"http://[::1]:{port}" if host == "::1" else f"http://{host}:{port}")
        assert ("over the network" in said) == (host == "0.0.0.0")

    def test_ctrl_c_is_no_error(self, app, capsys, monkeypatch):
        def interrupted(self, sockets):
            raise KeyboardInterrupt

        monkeypatch.setattr(uvicorn.Server, "run", interrupted)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            web.serve(app, listening, "127.0.0.1")
        assert capsys.readouterr().out.endswith("stopped\n")

    def test_request_that_is_cut_short_is_not_complained_about(self, caplog):
        logger = logging.getLogger("uvicorn.error.test")
        logger.addFilter(web._is_no_cancellation)
        for error in (asyncio.CancelledError(), ValueError("a real one")):
            try:
                raise error
            except (asyncio.CancelledError, ValueError):
                logger.exception("Exception in ASGI application")
        assert "a real one" in caplog.text and "CancelledError" not in caplog.text


def test_shared_words_are_the_same_in_both_languages():
    check_both_languages_say_the_same(web.SHARED / "shared.js", more_than=4)


def test_shared_style_and_script_stand_in_the_page_and_in_its_policy():
    plain = "<!-- shared style --><style>a{}</style><!-- shared script --><script>b</script>"
    html = web.with_shared(plain)
    assert html.count("<style>") == html.count("<script>") == 2
    assert "--accent" in html and "function translate" in html and "shared" not in web.with_shared("nothing")
    assert web.content_security_policy(html).count("'sha256-") == 4
