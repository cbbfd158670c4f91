"""The trained network as files for other runtimes, and the proof that all of them find the same. · 다른 런타임용으로 내보내기

    model.pt2          torch.export: one graph without Python; PyTorch loads it, also without this project's code
    model.onnx         ONNX: for ONNX Runtime, on nearly anything, from C++ to a browser
    model.int8.onnx    the same with convolutions in whole numbers of 8 bits

Each is compared with the network as it was trained: the first two must give the same boxes and scores, the last one cannot, and
its loss of average precision is measured. Then each is timed.
내보낸 파일마다 학습한 신경망과 결과를 비교한다. 앞의 둘은 같은 박스와 점수를 내야 하고, int8은 mAP가 얼마나 떨어지는지 잰다.
그다음 속도를 잰다.

Run        python -m study run detection/export        (after python -m study run detection, and study setup --extra onnx)
"""

import hashlib
import json
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from project5_realtime_detection import evaluate as evaluation
from project5_realtime_detection.data import Kind
from project5_realtime_detection.finder import Finder, Runtime, load_finder
from project5_realtime_detection.model import Detector, default_file, fused, load_network
from utils import paths
from utils.average_precision import mean_average_precision
from utils.batches import to_pixels
from utils.box_augmentation import letterbox
from utils.datasets.boxes import DetectionData
from utils.lesson import LessonError, check, mention, run

ENDINGS = {"exported": ".pt2", "onnx": ".onnx", "int8": ".int8.onnx"}
INSTALL = "python -m study setup --extra onnx"
EXPORT_FIRST = "run `python -m study run detection/export` first"
PIXELS, SCORES = 1e-3, 1e-4  # by which boxes and scores of another runtime may differ
MOST_LOST = 0.03  # of average precision at 0.5, by int8


# %% Writing
def write_files(file: Path | None, pictures: list[Tensor]) -> None:
    """Write the network in all forms, beside its file.

    Args:
        file: What `train` has written; None is where it writes.
        pictures: Some training pictures (3, height, width) uint8, for int8: by them it is decided what range of numbers each
            convolution has to do with.

    Raises:
        LessonError: There is no trained network, or a package is missing.
    """
    trained, about = load_network(file)
    try:
        import onnx  # noqa: F401  before anything is written
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise LessonError(f"{error.name} is not installed; export needs onnx, onnxscript and onnxruntime: {INSTALL}") from None
    model, side = fused(trained), about["side"]
    facts = json.dumps({**{name: about[name] for name in ("classes", "side", "source")}, "weights": fingerprint(trained)})
    example = torch.zeros(1, 3, side, side)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch about its own changes
        write_program(model, example, facts, beside(file, "exported"))
        write_onnx(model, example, facts, beside(file, "onnx"))
    write_int8(beside(file, "onnx"), beside(file, "int8"), [squares(picture, side) for picture in pictures])
    for runtime in ENDINGS:
        mention("written", paths.short(beside(file, runtime)))


def write_program(model: Detector, example: Tensor, facts: str, path: Path) -> None:
    """Write what torch.export makes of a network, with facts about it."""
    torch.export.save(torch.export.export(model, (example,)), path, extra_files={"about.json": facts})


def write_onnx(model: Detector, example: Tensor, facts: str, path: Path) -> None:
    """Write ONNX, with facts about the network in it."""
    import onnx

    program = torch.onnx.export(
        model, (example,), input_names=["pictures"], output_names=["boxes", "scores"], dynamo=True, verbose=False
    )
    graph = program.model_proto
    onnx.helper.set_model_props(graph, {"about": facts})
    onnx.save(graph, path)


def write_int8(onnx_file: Path, path: Path, pictures: list[Tensor]) -> None:
    """Write an ONNX network whose convolutions compute in whole numbers of 8 bits.

    Static quantisation: which number stands for which is decided beforehand, by the largest and smallest values that come up
    with `pictures`. Weights have a scale for each filter. What follows the last convolutions, from numbers to boxes, stays as it
    is.

    Args:
        onnx_file: What `write_onnx` has written.
        path: Where to.
        pictures: Each (1, 3, side, side) float32 in 0..1.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.left = iter(pictures)

        def get_next(self) -> dict | None:
            picture = next(self.left, None)
            return None if picture is None else {"pictures": picture.numpy()}

    logging.disable(logging.WARNING)  # its advice to fold batch norms first: they are
    quantize_static(
        onnx_file,
        path,
        Reader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
        activation_type=QuantType.QUInt8,  # after a ReLU nothing is negative
        weight_type=QuantType.QInt8,
    )
    logging.disable(logging.NOTSET)


def squares(picture: Tensor, side: int) -> Tensor:
    """What the network sees of a picture: (1, 3, side, side) float32."""
    return to_pixels(letterbox(picture, side)[0][None]).contiguous()


def beside(file: Path | None, runtime: Runtime) -> Path:
    """Where the network for a runtime lies."""
    path = file or default_file()
    return path.with_name(path.stem + ENDINGS[runtime])


def fingerprint(model: Detector) -> str:
    """A short text that is another one for other weights."""
    together = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        together.update(name.encode())
        together.update(tensor.cpu().contiguous().numpy().tobytes())
    return together.hexdigest()[:16]


# %% Reading
def load_exported(file: Path | None, runtime: Runtime) -> Finder:
    """Load what `write_files` has written, behind `find`.

    Raises:
        LessonError: It was not exported yet, it is damaged, it is of another network than `file`, or a package is missing.
    """
    path = beside(file, runtime)
    check((file or default_file()).exists(), "there is no trained network yet: run `python -m study run detection` first")
    check(path.exists(), f"{paths.short(path)} does not exist: {EXPORT_FIRST}")
    forward, facts = (read_program if runtime == "exported" else read_onnx)(path)
    try:
        about = json.loads(facts)
        classes, side, source, weights = (about[name] for name in ("classes", "side", "source", "weights"))
    except (ValueError, KeyError, TypeError):
        raise LessonError(f"{paths.short(path)} does not say what it finds: {EXPORT_FIRST}") from None
    same = weights == fingerprint(load_network(file)[0])
    check(same, f"{paths.short(path)} was made of another network than the one that is trained now: {EXPORT_FIRST}")
    return Finder(forward, classes, side, source)


def read_program(path: Path) -> tuple[Callable, str]:
    """The program of torch.export, and what is said about it."""
    facts = {"about.json": ""}
    try:
        program = torch.export.load(path, extra_files=facts).module()
    except Exception as error:  # out of a damaged file comes nearly anything
        raise LessonError(f"{paths.short(path)} is damaged ({type(error).__name__}): {EXPORT_FIRST}") from None
    return program, facts["about.json"]


def read_onnx(path: Path) -> tuple[Callable, str]:
    """A function that asks ONNX Runtime, with as many threads as PyTorch has, and what is said about it."""
    try:
        import onnxruntime
    except ImportError:
        raise LessonError(f"onnxruntime is not installed: {INSTALL}") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors only
    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # out of a damaged file comes nearly anything
        raise LessonError(f"{paths.short(path)} is damaged ({type(error).__name__}): {EXPORT_FIRST}") from None

    def forward(pictures: Tensor) -> tuple[Tensor, Tensor]:
        boxes, scores = session.run(None, {"pictures": pictures.contiguous().numpy()})
        return torch.from_numpy(boxes), torch.from_numpy(scores)

    return forward, session.get_modelmeta().custom_metadata_map.get("about", "")


# %% Comparing
@torch.inference_mode()
def differences(one: Finder, other: Finder, pictures: list[Tensor]) -> tuple[float, float]:
    """How far two runtimes are apart, at most: pixels of boxes of cells with a score of 0.01 or more, and scores of all cells."""
    pixels_apart, scores_apart = 0.0, 0.0
    for picture in pictures:
        seen = squares(picture, one.side)
        (boxes, scores), (their_boxes, their_scores) = one.forward(seen), other.forward(seen)
        scores_apart = max(scores_apart, (scores - their_scores).abs().max().item())
        something = scores.amax(dim=2) >= evaluation.LEAST_SCORE  # (1, cells)
        if something.any():
            pixels_apart = max(pixels_apart, (boxes - their_boxes)[something].abs().max().item())
    return pixels_apart, scores_apart


@torch.inference_mode()
def milliseconds(finder: Finder, picture: Tensor, repeats: int = 20) -> tuple[float, float]:
    """Medians for one picture: the network alone, and `find` from a picture in pixels to boxes."""
    seen = squares(picture, finder.side)
    return _median(lambda: finder.forward(seen), repeats), _median(lambda: finder.find(picture), repeats)


def _median(work: Callable, repeats: int) -> float:
    work()  # the first time pays for memory
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds)


def compare(finders: dict[str, Finder], data: DetectionData, looked_at: int, repeats: int) -> Iterator[dict[str, float]]:
    """For each finder, of which the first one is the yardstick: differences, average precision at 0.5, and times."""
    first = next(iter(finders.values()))
    test = data.test
    for finder in finders.values():
        found = evaluation.look(finder, test)
        precision = mean_average_precision(found, test.boxes, test.labels, len(data.classes), [0.5]).at_50
        box, score = differences(first, finder, test.images[:looked_at])
        network, whole = milliseconds(finder, test.images[0], repeats)
        yield {"map_50": precision, "pixels": box, "score": score, "network_ms": network, "find_ms": whole}


def main(
    model: Path | None = None,
    data: Kind = "scenes",
    folder: Path | None = None,
    compiled: bool = False,
    calibration: int = 100,
    looked_at: int = 20,
    repeats: int = 20,
) -> dict[str, float]:
    """Write the trained network for other runtimes, and compare and time them.

    Args:
        model: The file; without it, the one that `python -m study run detection` wrote.
        data: "scenes", "bccd" or "folder": what it was trained on; its test pictures are used to compare.
        folder: Where they are, for --data folder.
        compiled: Compare torch.compile as well: it needs a C++ compiler and a minute.
        calibration: Training pictures by which the ranges of int8 are found.
        looked_at: Test pictures by which boxes and scores are compared, number by number.
        repeats: Runs whose median is the time.
    """
    check(min(calibration, looked_at, repeats) > 0, "--calibration, --looked-at and --repeats must be above 0")
    eager = load_finder(model, "eager", "cpu")
    pictures = evaluation.pictures_for(model, data, folder)
    write_files(model, pictures.train.images[:calibration])
    finders = {"eager": eager, **{name: load_exported(model, name) for name in ENDINGS}}
    if compiled:
        finders["compiled"] = load_finder(model, "compiled", "cpu")
    threads = torch.get_num_threads()
    print(f"at {eager.side} pixels, {threads} thread{'s' * (threads > 1)}, medians; differences are from eager")
    print(f"{'':10}{'network':>10}{'to boxes':>11}{'a second':>10}{'box apart':>14}{'score apart':>13}{'mAP@0.5':>9}")
    results: dict[str, float] = {}
    for name, row in zip(finders, compare(finders, pictures, looked_at, repeats), strict=True):
        print(
            f"{name:10}{row['network_ms']:7.1f} ms{row['find_ms']:8.1f} ms{1000 / row['find_ms']:10.0f}{row['pixels']:11.1e} px"
            f"{row['score']:13.1e}{row['map_50']:9.4f}"
        )
        results |= {f"{key}_{name}": value for key, value in row.items()}
    for name in (name for name in finders if name != "int8"):
        close = results[f"pixels_{name}"] <= PIXELS and results[f"score_{name}"] <= SCORES
        check(close, f"{name} finds something else than eager: boxes up to {results[f'pixels_{name}']:.1e} pixels apart")
    lost = results["map_50_eager"] - results["map_50_int8"]
    check(lost <= MOST_LOST, f"int8 loses {lost:.3f} of mAP@0.5, more than {MOST_LOST}: try a larger --calibration")
    return results


if __name__ == "__main__":
    run(main, all_cores=True)
