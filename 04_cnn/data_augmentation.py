"""Data augmentation · 데이터 증강

A cat that is mirrored, moved or darkened is still a cat. Whoever draws such changes anew each time an image is used tells the
network what does not matter, and hardly ever shows it the same pixels twice.
고양이 사진을 뒤집거나 조금 옮기거나 어둡게 해도 고양이다. 이미지를 쓸 때마다 이런 변형을 새로 뽑으면 무엇이 중요하지 않은지를
신경망에 알려 주는 셈이고, 신경망은 똑같은 픽셀을 두 번 보는 일이 거의 없다.

You will
  1. write geometry for whole batches, in which each image has numbers of its own: flip, padded crop, turn
  2. write the colours: brightness, contrast, saturation, hue
  3. write what hides and what mixes: cutout, mixup, CutMix, whose labels are mixed as well
  4. find them all equal to torchvision's, see three conventions that are easily taken for others, and meet an error

Before     03_training/data_loading.py
Run        python -m study run data_augmentation      (about 6 s on one CPU core, after importing torch)
You see    eleven transforms, none further than 1e-5 from torchvision's; transforms.png
Try next   --strength 2: draw everything twice as wild. First guess which pictures you will still recognise; then look
Theory     notes/en/04_cnn.md · notes/ko/04_cnn.md
Practise   python -m study check 04
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.datasets import Source, cifar10, hold_out
from utils.lesson import check, run
from utils.plotting import save_figure

GREY = (0.2989, 0.587, 0.114)  # how bright red, green and blue look to the eye; torchvision's digits


# %% 1. Geometry: images (n, channels, height, width) of floats from 0 to 1, and one number for each of them
def flip(images: Tensor, which: Tensor) -> Tensor:
    """Mirror the images for which `which` (n,) is True."""
    return torch.where(which.view(-1, 1, 1, 1), images.flip(3), images)


def crop(images: Tensor, top: Tensor, left: Tensor, padding: int, mode: str) -> Tensor:
    """Pad every side by `padding` pixels, and cut the old size out again, beginning at `top` and `left` (n,), 0 to 2 padding."""
    n, channels, height, width = images.shape
    padded = F.pad(images, [padding] * 4, mode=mode)  # (n, channels, height + 2 padding, width + 2 padding)
    rows = top.view(-1, 1, 1, 1) + torch.arange(height, device=top.device).view(-1, 1)  # (n, 1, height, 1)
    columns = left.view(-1, 1, 1, 1) + torch.arange(width, device=left.device)  # (n, 1, 1, width)
    padded = padded.gather(2, rows.expand(n, channels, height, padded.shape[3]))
    return padded.gather(3, columns.expand(n, channels, height, width))


def affine(images: Tensor, degrees: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Turn images counter-clockwise by `degrees` (n,), enlarge them by `scale` (n,), move them right and down by `shift` (n, 2).

    `grid_sample` asks the other way round: where does each pixel of the result come from? So the map is the inverse one.
    """
    cos, sin = degrees.deg2rad().cos() / scale, degrees.deg2rad().sin() / scale
    back = torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)  # (n, 2, 2), in pixels; y points down
    half = images.new_tensor([images.shape[3] / 2, images.shape[2] / 2])  # a grid counts from -1 to 1, not in pixels
    move = -back @ shift.unsqueeze(2)  # (n, 2, 1)
    matrix = torch.cat([back * half, move], dim=2) / half.view(2, 1)  # (n, 2, 3)
    grid = F.affine_grid(matrix, images.shape, align_corners=False)  # (n, height, width, 2)
    return F.grid_sample(images, grid, align_corners=False)  # bilinear; 0 from outside


# %% 2. Colours
def grey(images: Tensor) -> Tensor:
    """Weigh the colours (n, 3, height, width) and add them up: (n, 1, height, width)."""
    return (images * images.new_tensor(GREY).view(3, 1, 1)).sum(dim=1, keepdim=True)


def blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """Go from `other` (factor 0) to the images (1) and beyond, factor (n,): brightness, contrast and saturation in one."""
    factor = factor.view(-1, 1, 1, 1)
    return (factor * images + (1 - factor) * other).clamp(0, 1)


def hue(images: Tensor, turn: Tensor) -> Tensor:
    """Turn the colour circle by `turn` (n,), in circles: red becomes green at 1/3. The largest and smallest number stay."""
    brightest, which = images.max(dim=1, keepdim=True)  # (n, 1, height, width) each
    chroma = brightest - images.amin(dim=1, keepdim=True)
    red, green, blue = images.unbind(dim=1)
    lead = torch.stack([green - blue, blue - red, red - green], dim=1).gather(1, which)  # the other two of the circle's three
    sixths = 2 * which + lead / chroma.clamp(min=1e-12) + 6 * turn.view(-1, 1, 1, 1)  # red at 0, green at 2, blue at 4
    place = (images.new_tensor([5, 3, 1]).view(3, 1, 1) + sixths) % 6  # (n, 3, height, width)
    return brightest - chroma * torch.minimum(place, 4 - place).clamp(0, 1)


# %% 3. What hides and what mixes: a box painted grey is cutout, a box out of another image is CutMix
def box(corner: Tensor, size: Tensor, height: int, width: int) -> Tensor:
    """Mark a box in each image: its upper left `corner` and its `size`, (n, 2) rows and columns → (n, 1, height, width) bool."""
    top, left = corner.T.reshape(2, -1, 1, 1, 1)  # may lie outside; the edge of the image cuts the box
    bottom, right = (corner + size).T.reshape(2, -1, 1, 1, 1)
    rows, columns = torch.arange(height, device=size.device).view(-1, 1), torch.arange(width, device=size.device)
    return (top <= rows) & (rows < bottom) & (left <= columns) & (columns < right)


def mixup(x: Tensor, share: Tensor, partner: Tensor) -> Tensor:
    """Lay number `partner` (n,) over each x (n, ...), which keeps `share` (n,): the images, and their targets (n, classes)."""
    return torch.lerp(x[partner], x, share.view(-1, *[1] * (x.dim() - 1)))


# %% 4. Every transform is two things: numbers that are drawn, and a function that is applied
def draw_numbers(n: int, height: int, width: int, strength: float, seed: int) -> dict[str, Tensor]:
    """Draw numbers for each of n images; strength 1 is about what one trains with."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: float, high: float, *size: int) -> Tensor:  # (n, *size), evenly from low to high
        return low + (high - low) * torch.rand(n, *size, generator=generator, dtype=torch.float64)

    size = (draw(0.25, 0.5, 2) * torch.tensor([height, width])).long()
    return {
        "which": draw(0, 1) < 0.5,
        "offset": draw(0, 2 * (height // 8) + 1, 2).long(),  # down, right
        "degrees": draw(-30, 30) * strength,
        "scale": torch.exp(draw(-0.3, 0.3) * strength),
        "shift": draw(-height / 8, height / 8, 2) * strength,
        "colours": draw(1 - 0.5 * strength, 1 + 0.5 * strength, 3).clamp(min=0),  # brightness, contrast, saturation
        "hue": (draw(-0.2, 0.2) * strength).clamp(-0.5, 0.5),
        "size": size,
        "corner": (draw(0, 1, 2) * (torch.tensor([height, width]) - size)).long(),  # torchvision's boxes lie inside
        "share": draw(0, 1),  # the same as from Beta(1, 1)
    }


def apply_ours(images: Tensor, targets: Tensor, numbers: dict[str, Tensor]) -> dict[str, Tensor]:
    """Apply every transform to a batch (n, 3, height, width) and its targets (n, classes), each to the unchanged images."""
    n, _, height, width = images.shape
    (top, left), (bright, strong, saturated) = numbers["offset"].T, numbers["colours"].T  # (n,) each
    neighbour = torch.arange(n).roll(1)  # torchvision mixes each image with the one before
    inside = box(numbers["corner"], numbers["size"], height, width)
    return {
        "flip": flip(images, numbers["which"]),
        "crop zeros": crop(images, top, left, height // 8, "constant"),
        "crop reflect": crop(images, top, left, height // 8, "reflect"),
        "affine": affine(images, numbers["degrees"], numbers["scale"], numbers["shift"]),
        "brightness": blend(images, torch.zeros_like(images), bright),  # from black
        "contrast": blend(images, grey(images).mean(dim=(1, 2, 3), keepdim=True), strong),  # from each image's own mean
        "saturation": blend(images, grey(images), saturated),  # from grey
        "hue": hue(images, numbers["hue"]),
        "cutout": images.masked_fill(inside, 0.5),  # grey over the box
        "mixup": mixup(images, numbers["share"], neighbour),
        "cutmix": torch.where(inside, images[neighbour], images),
        "mixup targets": mixup(targets, numbers["share"], neighbour),
        "cutmix targets": mixup(targets, 1 - inside.double().mean(dim=(1, 2, 3)), neighbour),  # by the area covered
    }


def apply_torchvision(images: Tensor, targets: Tensor, numbers: dict[str, Tensor], i: int) -> dict[str, Tensor]:
    """Apply torchvision's transforms to image number i, with its numbers."""
    from torchvision.transforms import InterpolationMode, v2

    f, x, (height, width) = v2.functional, images[i], images.shape[2:]
    one = {name: value[i].tolist() for name, value in numbers.items()}
    (top, left), (rows, columns) = one["corner"], one["size"]
    padded = {mode: f.pad(x, [height // 8], padding_mode=mode) for mode in ("constant", "reflect")}
    mixing = {"labels": targets, "batch_size": len(images), "lam": one["share"]}  # torchvision has one share for a batch
    pasting = mixing | {"box": (left, top, left + columns, top + rows), "lam_adjusted": 1 - rows * columns / (height * width)}
    return {
        "flip": f.horizontal_flip(x) if one["which"] else x,
        "crop zeros": f.crop(padded["constant"], *one["offset"], height, width),
        "crop reflect": f.crop(padded["reflect"], *one["offset"], height, width),
        "affine": f.affine(x, -one["degrees"], one["shift"], one["scale"], [0, 0], InterpolationMode.BILINEAR),  # clockwise
        "brightness": f.adjust_brightness(x, one["colours"][0]),
        "contrast": f.adjust_contrast(x, one["colours"][1]),
        "saturation": f.adjust_saturation(x, one["colours"][2]),
        "hue": f.adjust_hue(x, one["hue"]),
        "cutout": f.erase(x, top, left, rows, columns, torch.tensor(0.5)),
        "mixup": v2.MixUp().transform(images, mixing)[i],
        "cutmix": v2.CutMix().transform(images, pasting)[i],
        "mixup targets": v2.MixUp().transform(targets, mixing)[i],
        "cutmix targets": v2.CutMix().transform(targets, pasting)[i],
    }


def measure_conventions(picture: Tensor) -> dict[str, float]:
    """Measure on a picture (3, height, width) how much three of torchvision's conventions matter, in mean differences."""
    from torchvision.transforms import InterpolationMode, v2

    f, smooth, (height, width) = v2.functional, InterpolationMode.BILINEAR, picture.shape[1:]
    turned, other_way = f.rotate(picture, 30, smooth), f.affine(picture, 30, [0, 0], 1, [0, 0], smooth)
    beside = f.rotate(picture, 30, smooth, center=[(width - 1) / 2, (height - 1) / 2])
    white = torch.full((3, 1, 1), 255, dtype=torch.uint8)
    found = {"other_way": (turned - other_way).abs().mean().item(), "half_a_pixel": (turned - beside).abs().mean().item()}
    found["white_tensor"] = f.adjust_saturation(white, 0).max().item()
    found["white_picture"] = max(f.adjust_saturation(f.to_pil_image(white), 0).getpixel((0, 0)))
    print(f"   30 degrees are counter-clockwise for f.rotate, clockwise for f.affine: {found['other_way']:.2f} between the two")
    print(f"   the centre is (width/2, height/2); whoever counts pixels from 0 is half a pixel off: {found['half_a_pixel']:.3f}")
    print(
        f"   white without colour: {found['white_tensor']} in a tensor, {found['white_picture']} in Pillow; {GREY} sum to 0.9999"
    )
    return found


def forget_floats(images: Tensor) -> str:
    """Turn pictures of whole numbers, as files hold them; return PyTorch's answer."""
    try:
        affine((images * 255).byte(), torch.zeros(1), torch.ones(1), torch.zeros(1, 2))
    except RuntimeError as error:
        message = str(error)
    print(f"   {message}\n   read: a turned pixel is a mean of four, and bytes (uint8) have no means: images.float() / 255 first")
    return message


def draw_figure(rows: list[dict[str, Tensor]]) -> None:
    """Draw pictures {transform: (3, height, width)}, each of `rows` in two lines."""
    import matplotlib.pyplot as plt

    half = len(rows[0]) // 2
    figure, axes = plt.subplots(2 * len(rows), half, figsize=(2 * half, 6), layout="constrained")
    for number, name in enumerate(rows[0]):
        for axis, row in zip(axes[number // half :: 2, number % half], rows, strict=True):
            axis.imshow(row[name].permute(1, 2, 0).numpy())
            axis.set_title(name)
            axis.set_axis_off()
    save_figure(figure, __file__, "transforms")


# %% All of it, in order
def main(strength: float = 1.0, source: Source = "auto", seed: int = 0) -> dict[str, float]:
    """Write the usual augmentations for whole batches, and find them equal to torchvision's.

    Args:
        strength: How wild turns, shifts and colours are drawn.
        source: Small images beside the photographs from: auto (CIFAR-10 if it is there, else the sample), real, sample.
        seed: Of all that is drawn.
    """
    from sklearn.datasets import load_sample_images

    check(0 < strength <= 3, f"--strength {strength}: needed is a number above 0, 3 at most")
    photos = torch.stack([torch.tensor(photo) for photo in load_sample_images().images])[[0, 1] * 4]  # (8, 427, 640, 3)
    photos = F.interpolate(photos.permute(0, 3, 1, 2).double() / 255, (80, 120), mode="bilinear", antialias=True)
    small = hold_out(cifar10(source).train, 8, seed)[1].images.double() / 255  # (8, 3, 32, 32)
    differences, rows = {}, []
    for images in (photos, small):
        targets = torch.eye(len(images), dtype=torch.float64)  # as if each image had a class of its own
        numbers = draw_numbers(len(images), *images.shape[2:], strength, seed)
        ours = apply_ours(images, targets, numbers)
        theirs = [apply_torchvision(images, targets, numbers, i) for i in range(len(images))]
        for name, result in ours.items():
            difference = (result - torch.stack([one[name] for one in theirs])).abs().max().item()
            differences[name] = max(difference, differences.get(name, 0))
        rows.append({"as it is": images[1]} | {name: result[1] for name, result in ours.items() if result.dim() == 4})
    print("4. largest difference from torchvision: " + ", ".join(f"{name} {value:.0e}" for name, value in differences.items()))
    check(max(differences.values()) < 1e-5, f"differences from torchvision: {differences}")
    conventions = measure_conventions(photos[1])
    forget_floats(small[:1])
    draw_figure(rows)
    return {f"difference_{name.replace(' ', '_')}": value for name, value in differences.items()} | conventions


if __name__ == "__main__":
    run(main)
