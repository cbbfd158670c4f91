"""Augmentation pitfalls · 데이터 증강의 함정

Augmentation promises that a change leaves the label alone, and that changed copies stay on their side of the split. Nothing
checks either promise: a turned 6 is a 9, and a copy of a test image in the training set makes any result look good.
데이터 증강에는 약속이 둘 있다. 변형해도 레이블이 그대로라는 것, 변형한 사본이 학습과 테스트를 넘나들지 않는다는 것이다. 어느
쪽도 저절로 검사되지 않는다. 6을 돌리면 9가 되고, 테스트 이미지의 사본이 학습 세트에 들어가면 어떤 결과든 좋아 보인다.

You will
  1. draw for every image, where torchvision draws once for a batch; and repeat it, whatever else draws random numbers
  2. measure how much faster a batch is changed at once than image by image in a DataLoader
  3. flip and turn digits, and ask what they are now
  4. augment before splitting, and compare what the test set promises with the truth

Before     04_cnn/data_augmentation.py
Run        python -m study run augmentation_pitfalls      (about 8 s on one CPU core, after importing torch)
You see    a leak that promises 0.46 where 0.17 is true; 89 % of the 6s read as 9 when turned by 180°; digits.png
Try next   --copies 15: five times as many copies. First guess what happens to the promise and to the truth; then look
Theory     notes/en/04_cnn.md · notes/ko/04_cnn.md
Practise   python -m study check 04
"""

import math
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.datasets import Images, Source, cifar10, hold_out, mnist
from utils.lesson import check, run
from utils.plotting import label, save_figure


# %% 1. A draw for each image, or one for all
def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the images (n, channels, height, width), move each by up to 4 pixels. The form that `utils.batches` wants.

    The numbers are drawn on the CPU, by a generator of its own: the same on every device, whatever else draws.
    """
    n, channels, height, width = images.shape
    which = (torch.rand(n, generator=generator) < 0.5).to(images.device)
    top, left = torch.randint(0, 9, (2, n), generator=generator).to(images.device)
    images = torch.where(which.view(-1, 1, 1, 1), images.flip(3), images)
    rows = top.view(-1, 1, 1, 1) + torch.arange(height, device=top.device).view(-1, 1)  # (n, 1, height, 1)
    columns = left.view(-1, 1, 1, 1) + torch.arange(width, device=top.device)  # (n, 1, 1, width)
    images = F.pad(images, [4] * 4, mode="reflect")  # (n, channels, height + 8, width + 8)
    images = images.gather(2, rows.expand(n, channels, height, width + 8))
    return images.gather(3, columns.expand(n, channels, height, width))


def count_flips(images: Tensor, batches: int, seed: int) -> dict[str, list[int]]:
    """Mirror half of the same batch again and again; return how many images each time, by torchvision and by a draw for each."""
    from torchvision.transforms import v2

    theirs, generator = v2.RandomHorizontalFlip(p=0.5), torch.Generator().manual_seed(seed)
    counts = {"torchvision": [], "for each image": []}
    with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator: give back what it took
        torch.manual_seed(seed)
        for _ in range(batches):
            which = torch.rand(len(images), generator=generator) < 0.5
            ours = torch.where(which.view(-1, 1, 1, 1), images.flip(3), images)
            for name, mirrored in (("torchvision", theirs(images)), ("for each image", ours)):
                counts[name].append((mirrored != images).flatten(1).any(dim=1).sum().item())
    return counts


def whose_numbers(images: Tensor, seed: int) -> tuple[bool, bool]:
    """Return whether ours gives the same twice, whatever was drawn between, and whether it leaves the global generator alone."""
    first = augment(images, torch.Generator().manual_seed(seed))
    with torch.random.fork_rng(devices=[]):
        torch.rand(1)  # a layer's weights, a dropout: something draws
        before = torch.get_rng_state()
        second = augment(images, torch.Generator().manual_seed(seed))
        return torch.equal(first, second), torch.equal(before, torch.get_rng_state())


# %% 2. A batch at once, or image by image
def compare_speed(images: Tensor) -> float:
    """Mirror and move all images once, in a DataLoader and in batches; return the ratio of the CPU times."""
    from torchvision.transforms import v2

    change = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(images.shape[2:], padding=4, padding_mode="reflect")])

    def collate(few: list[Tensor]) -> Tensor:
        return torch.stack([change(x) for x in few])

    with torch.random.fork_rng(devices=[]):
        collate([images[0]])  # whatever is done once, at the first call
        started = time.process_time()
        for _ in torch.utils.data.DataLoader(images, batch_size=128, collate_fn=collate):
            pass
        one_by_one = time.process_time() - started
    generator = torch.Generator().manual_seed(0)
    augment(images[:128], generator)  # likewise
    started = time.process_time()
    for few in images.split(128):
        augment(few, generator)
    return one_by_one / (time.process_time() - started)


# %% 3. What is it now?
def turn(images: Tensor, degrees: float) -> Tensor:
    """Turn square images counter-clockwise; black comes in from outside."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    back = torch.tensor([[cos, -sin, 0], [sin, cos, 0]]).expand(len(images), -1, -1)  # from the result to where it comes from
    return F.grid_sample(images, F.affine_grid(back, images.shape, align_corners=False), align_corners=False)


def nearest(known: Tensor, labels: Tensor, new: Tensor) -> Tensor:
    """Answer for each new image with the label of the known image whose pixels are nearest: (n, ...) → (n,)."""
    return labels[torch.cdist(new.flatten(1), known.flatten(1)).argmin(dim=1)]


def read_changed(train: Images, test: Images) -> dict[str, Tensor]:
    """Change test digits in four ways, and return what the nearest of the unchanged training digits are: (n,) each."""
    known, x = train.images / 255, test.images / 255  # (n, 1, 28, 28)
    changed = {"as they are": x, "mirrored": x.flip(3), "turned by 15": turn(x, 15), "turned by 180": turn(x, 180)}
    return {name: nearest(known, train.labels, pictures) for name, pictures in changed.items()}


# %% 4. Augmenting before splitting
def with_copies(data: Images, copies: int, generator: torch.Generator) -> Images:
    """Make `copies` augmented copies of every image, one after the other; floats from 0 to 1."""
    repeated = data[torch.arange(len(data)).repeat_interleave(copies)]
    return Images(augment(repeated.images / 255, generator), repeated.labels)


def compare_splits(pool: Images, new: Images, copies: int, seed: int) -> dict[str, float]:
    """Keep a quarter for testing, after augmenting and before; return what the test set promises and what new images confirm."""
    generator = torch.Generator().manual_seed(seed)
    quarter = len(pool) // 4
    everything = with_copies(pool, copies, generator)
    order = torch.randperm(len(everything), generator=generator)  # copies of one image fall on both sides
    too_early = everything[order[copies * quarter :]], everything[order[: copies * quarter]]
    order = torch.randperm(len(pool), generator=generator)
    kept = pool[order[:quarter]]
    right = with_copies(pool[order[quarter:]], copies, generator), Images(kept.images / 255, kept.labels)  # tests: unchanged
    found = {}
    for name, (train, test) in (("too_early", too_early), ("after_splitting", right)):
        for claim, images in (("promised", test), ("true", Images(new.images / 255, new.labels))):
            answers = nearest(train.images, train.labels, images.images)
            found[f"{claim}_{name}"] = (answers == images.labels).float().mean().item()
    return found


def draw_figure(test: Images, answers: dict[str, Tensor]) -> None:
    """Draw the first of each digit, as it is, mirrored and upside down, each with what its nearest neighbour is."""
    import matplotlib.pyplot as plt

    rows = {"as they are": lambda x: x, "mirrored": lambda x: x.flip(1), "turned by 180": lambda x: x.rot90(2)}
    names = [label("as it is", "그대로"), label("mirrored", "좌우로 뒤집음"), label("turned by 180°", "180° 돌림")]
    figure, axes = plt.subplots(3, 10, figsize=(11, 4), layout="constrained")
    for line, (way, change) in enumerate(rows.items()):
        for digit in range(10):
            first = (test.labels == digit).nonzero()[0].item()
            axis, answer = axes[line, digit], answers[way][first].item()
            axis.imshow(change(test.images[first, 0]).numpy(), cmap="gray_r")
            axis.set_title(f"{answer}", color="black" if answer == digit else "red")
            axis.set(xticks=[], yticks=[])
        axes[line, 0].set_ylabel(names[line])
    save_figure(figure, __file__, "digits")


# %% All of it, in order
def main(copies: int = 3, images: int = 400, repeats: int = 5, source: Source = "auto", seed: int = 0) -> dict[str, float]:
    """Draw as one should, and break the two promises of augmentation.

    Args:
        copies: Augmented copies of each image in section 4.
        images: Images that are copied.
        repeats: How often that is done, each time with other images.
        source: Images and digits from: auto (CIFAR-10 and MNIST if they are there, else the samples), real, sample.
        seed: Of all that is drawn.
    """
    check(copies >= 2 and repeats >= 2, "--copies and --repeats must be at least 2")
    data, digits = cifar10(source), mnist(source)
    check(20 <= images <= len(data.train) // 2, f"--images {images}: needed are 20 to {len(data.train) // 2}")
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
    some = data.train.images[order[:1024]] / 255  # (1024, 3, 32, 32)
    counts = count_flips(some[:64], batches=8, seed=seed)
    for name, flipped in counts.items():
        print(f"{'1.' if name == 'torchvision' else '  '} mirrored of 64, {name}: {', '.join(map(str, flipped))}")
    repeatable, untouched = whose_numbers(some[:64], seed)
    check(repeatable and untouched, "the generator of its own is not its own")
    ratio = compare_speed(some)
    print(f"2. flip and crop: a batch at once is {ratio:.1f} times as fast as its images one by one")

    known, new = digits.train[:1437], digits.test[:360]  # all that the sample has
    answers = read_changed(known, new)
    same = {name: (answer == new.labels).float().mean().item() for name, answer in answers.items()}
    print("3. digits that are read as before: " + ", ".join(f"{name} {share:.2f}" for name, share in same.items()))
    sixes = answers["turned by 180"][new.labels == 6]
    nines = (sixes == 9).float().mean().item()
    print(f"   a 6 turned by 180 degrees is read as a 9: {nines:.0%}")

    _, unseen = hold_out(data.test, 1000)  # at random: in folders one class comes after the other
    found = []
    for i in range(repeats):
        order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed + 1 + i))
        found.append(compare_splits(data.train[order[:images]], unseen, copies, seed + 1 + i))
    results = {}
    print("4. copies before splitting and after it: what the test set promises, what new images confirm")
    for name in found[0]:
        values = torch.tensor([one[name] for one in found])
        results[name] = values.mean().item()
        print(f"   {name.replace('_', ' '):24} {values.mean():.3f} ± {values.std():.3f}")
    draw_figure(new, answers)
    leak, off = (results[f"promised_{when}"] - results[f"true_{when}"] for when in ("too_early", "after_splitting"))
    check(leak > abs(off), f"promised too much by {leak:.3f} with the leak, by {off:.3f} without: more --images?")
    results |= {f"read_{name.replace(' ', '_')}": share for name, share in same.items()}
    return results | {"six_read_as_nine": nines, "times_faster": ratio}


if __name__ == "__main__":
    run(main)
