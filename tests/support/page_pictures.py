"""Pictures of pages: kept small, and compared as an eye would from some steps away.

Fonts and anti-aliasing differ between machines, so pixels are not compared: both pictures are shrunk until only where
things lie and how dark they are is left.
"""

from io import BytesIO
from pathlib import Path

from PIL import Image, ImageChops, ImageStat

SHRUNK_TO = 80  # pixels of width
MOST_DIFFERENT = 4.0  # of 255, the mean over all pixels and colours
MOST_LONGER = 0.04  # of the height
COLOURS = 48


def keep(png: bytes, path: Path) -> None:
    """Write it with few colours, which is all that a flat page has."""
    path.parent.mkdir(exist_ok=True)
    Image.open(BytesIO(png)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def difference(png: bytes, path: Path) -> str | None:
    """In words, how a picture is other than the one that is kept; None where it is the same to the eye."""
    now, then = Image.open(BytesIO(png)).convert("RGB"), Image.open(path).convert("RGB")
    if now.width != then.width or abs(now.height - then.height) > MOST_LONGER * then.height:
        return f"{now.width} x {now.height}, and was {then.width} x {then.height}"
    size = (SHRUNK_TO, SHRUNK_TO * then.height // then.width)
    apart = ImageChops.difference(*(each.resize(size, Image.Resampling.BOX) for each in (now, then)))
    mean = sum(ImageStat.Stat(apart).mean) / 3
    return f"{mean:.1f} of 255 apart" if mean > MOST_DIFFERENT else None
