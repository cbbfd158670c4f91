"""What the tests of the projects' pages share: a real server, and pictures to send to it."""

import contextlib
import io
import struct
import threading
import zlib
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI
from PIL import Image

from utils import web


@contextlib.contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serve an application on a free port of this computer, and say at which address."""
    with web.listen("127.0.0.1", 0) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    """A picture as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
