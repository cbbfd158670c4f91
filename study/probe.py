"""Look at an environment from the inside: `python probe.py ROOT` prints one JSON object. Run by the doctor."""

import importlib
import importlib.util
import json
import sys


def main(root: str) -> dict:
    found = {"python": sys.version.split()[0], "versions": {}, "errors": {}}
    for package in ("torch", "torchvision", "torchaudio"):
        try:
            found["versions"][package] = importlib.import_module(package).__version__
        except Exception as error:  # whatever a damaged package throws is what the doctor wants to know
            found["errors"][package] = f"{type(error).__name__}: {error}".splitlines()[0]
    utils = importlib.util.find_spec("utils")
    found["utils"] = utils.origin if utils else None
    if "torch" in found["versions"]:
        look_at_torch(found)
    look_for_font(found, root)
    return found


def look_at_torch(found: dict) -> None:
    import torch

    try:
        x = torch.ones(2, 2, requires_grad=True)
        (x @ x).sum().backward()
        found["computes"] = bool((x.grad == 4).all())
        found["cuda"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        found["mps"] = torch.backends.mps.is_available()
    except Exception as error:  # the same
        found["errors"]["torch"] = f"{type(error).__name__}: {error}".splitlines()[0]


def look_for_font(found: dict, root: str) -> None:
    """The font that figures would use for Korean: utils.plotting knows which ones will do."""
    sys.path.insert(0, root)  # only now: where `utils` comes from without help has been found out
    try:
        from utils.plotting import korean_font

        found["font"] = korean_font()
    except Exception as error:  # no matplotlib
        found["font_error"] = f"{type(error).__name__}: {error}".splitlines()[0]


if __name__ == "__main__":
    sys.path.pop(0)  # study/ itself: its modules are not meant to be found by their bare names
    print(json.dumps(main(sys.argv[1])))
