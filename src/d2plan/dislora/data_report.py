"""What became of a concept's folder: which files are used and how, which are left out and why."""

from collections import Counter
from dataclasses import asdict, dataclass

ENLARGED_MUCH = 2.0


@dataclass(frozen=True)
class UsedPicture:
    """A picture that is learnt from.

    Attributes:
        name: of the file.
        height: of the picture as people see it, pixels.
        width: the same, pixels.
        content: its rows and columns without plain bars: first and last row, first and last column, the last ones
            excluded.
        bucket: height and width that the content was cut and scaled to, pixels.
        caption: where its caption stands; None when the template is used.
        mask: where its subject mask stands; None when the whole picture counts.
    """

    name: str
    height: int
    width: int
    content: tuple[int, int, int, int]
    bucket: tuple[int, int]
    caption: str | None = None
    mask: str | None = None

    @property
    def enlarged(self) -> float:
        """How many times it was scaled up; less than 1 when it was scaled down."""
        top, bottom, left, right = self.content
        return max(self.bucket[0] / (bottom - top), self.bucket[1] / (right - left))

    @property
    def kept(self) -> float:
        """Part of the content's area that is left in the bucket, 0..1."""
        top, bottom, left, right = self.content
        return min(1.0, self.bucket[0] * self.bucket[1] / (self.enlarged**2 * (bottom - top) * (right - left)))


@dataclass(frozen=True)
class LeftOut:
    """A file of the folder that is not learnt from.

    Attributes:
        name: of the file.
        reason: why, and what to do.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class DataReport:
    """All that happened to a concept's folder, for people to read and for the training's record.

    Attributes:
        used: the pictures, in their order.
        left_out: files that are not learnt from.
        remarks: what a person should know about what is used, a sentence each.
    """

    used: tuple[UsedPicture, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Give what was left out and the remarks, a sentence each."""
        return (*(f"left out {show_name(item.name)}: {item.reason}" for item in self.left_out), *self.remarks)

    @property
    def buckets(self) -> dict[tuple[int, int], int]:
        """Count the pictures of each size, height and width in pixels, the most frequent first."""
        return dict(Counter(picture.bucket for picture in self.used).most_common())

    def lines(self) -> tuple[str, ...]:
        """Write the report for people, a line each: what is used, at which sizes, then the notes."""
        captions = sum(picture.caption is not None for picture in self.used)
        masks = sum(picture.mask is not None for picture in self.used)
        first = f"{_count(len(self.used), 'picture')} used, {_count(captions, 'caption')}, {_count(masks, 'mask')}"
        if self.left_out:
            first += f"; {_count(len(self.left_out), 'file')} left out"
        sizes = [f"{count} at {width} x {height}" for (height, width), count in self.buckets.items()]
        return (first, *([f"sizes: {', '.join(sizes)} pixels"] if sizes else []), *self.notes)

    def record(self) -> dict[str, object]:
        """Give the report as plain data that JSON can hold; no path outside the folder is in it."""
        return {
            "used": [
                {**asdict(picture), "content": list(picture.content), "bucket": list(picture.bucket)}
                for picture in self.used
            ],
            "left_out": [asdict(item) for item in self.left_out],
            "remarks": list(self.remarks),
        }


def show_name(name: str) -> str:
    r"""Write a file's name so that it stays in its line and cannot steer a terminal.

    >>> show_name("a\nb.png")
    'a\\nb.png'

    Args:
        name: as the system gives it.

    Returns:
        The name, with everything unprintable spelled out.
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)


def remark_on(picture: UsedPicture, animated: bool, one_colour: bool) -> list[str]:
    """Say what a person should know about a picture that is used.

    Args:
        picture: how it is used.
        animated: it holds more frames than the first.
        one_colour: all its pixels are the same.

    Returns:
        A sentence each.
    """
    name = show_name(picture.name)
    remarks = []
    if animated:
        remarks.append(f"{name} is animated; only its first frame is used")
    if one_colour:
        remarks.append(f"{name} shows one colour and nothing else, which teaches nothing")
    top, bottom, left, right = picture.content
    if (bottom - top, right - left) != (picture.height, picture.width):
        remarks.append(
            f"{name} has plain bars at its sides; they were cut off, which left {right - left} x {bottom - top} pixels"
        )
    if picture.enlarged > ENLARGED_MUCH:
        remarks.append(
            f"{name} shows only {right - left} x {bottom - top} pixels and was enlarged {picture.enlarged:.1f} times; "
            "a larger one would teach more"
        )
    return remarks


def _count(number: int, word: str) -> str:
    return f"{number or 'no'} {word}" + ("" if number == 1 else "s")
