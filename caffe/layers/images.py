"""Layer types that bring images from files into a net (docs/engine.md section 2.1)."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from caffe import glog
from caffe.blob import Blob
from caffe.errors import CaffeError, check
from caffe.images import read_image, resize
from caffe.layer import Layer, register
from caffe.layers.hdf5 import RowOrder
from caffe.prefetch import Ahead
from caffe.transform import Transformation
from caffe_proto.texts import read_text

WHOLE = re.compile(r"-?[0-9]{1,9}")  # a number of a list
Batch = tuple[np.ndarray, np.ndarray]  # images (B, C, H, W) and labels (B), float32


def read_list(path: str, form: str, place: str = "") -> list[tuple[str, int]]:
    """[(file, label)] of a list of image files, a line each; the last space divides, empty lines are skipped.

    Raises CaffeError with `place` and the line for one that has not the `form`, as the message calls it.
    """
    with CaffeError.of_files(place):
        lines = read_text(path, "a list of image files").splitlines()
    found = []
    for number, line in enumerate(lines, 1):
        name, _, label = line.rstrip().rpartition(" ")
        if line.strip():
            where = f"{place}: {path}, line {number}" if place else f"{path}, line {number}"
            check(name and WHOLE.fullmatch(label), where, form, repr(line))
            found.append((name, int(label)))
    return found


class ImageBatches(Layer):
    """Batches of transformed images with labels; a thread reads the next one while the net works on this one.

    Subclasses open their source and read a batch: `batch_size`, `open`, `read`, `place`, `go_to`. What a batch is read
    with is used by one thread at a time.
    """

    bottoms = (0, 0)
    tops = (2, 2)
    passes_values = True
    needs_host = "reads its images on the host"

    @property
    @abstractmethod
    def batch_size(self) -> int:
        """Images in a batch."""

    @abstractmethod
    def open(self) -> tuple[int, int, int]:
        """Open the source; returns (channels, height, width) of what the first image becomes."""

    @abstractmethod
    def read(self) -> Batch:
        """The next batch, and go on behind it."""

    @abstractmethod
    def place(self) -> dict[str, Any]:
        """Where in the source the next batch begins."""

    @abstractmethod
    def go_to(self, place: dict[str, Any]) -> None:
        """Go on from a place() of before."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.check(self.batch_size > 0, "a positive batch_size", self.batch_size)
        self.transformation = Transformation(self.layer_param.transform_param, self.training, self.where)
        if self.transformation.draws:
            self.transformation.seed([self.context.random.draw_seed(), self.context.solver_rank])
        shape = self.open()
        top[0].reshape(self.batch_size, *shape)
        if len(top) > 1:
            top[1].reshape(self.batch_size)
        self.context.say("output data size: " + ",".join(map(str, top[0].shape)))
        self.ahead, self.consumed = None, self.whole_place()

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Shapes are those of the batch."""

    def whole_place(self) -> dict[str, Any]:
        """Where the next batch begins, in the source and in the transformation's stream."""
        return {**self.place(), "transformation": self.transformation.state()}

    def read_batch(self) -> tuple[Batch, dict[str, Any]]:
        """The next batch, and the place behind it."""
        return self.read(), self.whole_place()

    def join(self, images: Sequence[np.ndarray], labels: Sequence[float], places: Sequence[str]) -> Batch:
        """A batch of images that must be of one shape; `places` names them."""
        for image, place in zip(images, places, strict=True):
            expected = f"{images[0].shape} as the first image of the batch"
            self.check(image.shape == images[0].shape, place, expected, image.shape)
        return np.stack(images), np.array(labels, np.float32)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        ahead = self.ahead or Ahead(self.read_batch)
        self.ahead = None
        batch, self.consumed = ahead.result()
        self.ahead = Ahead(self.read_batch)
        for blob, array in zip(top, batch, strict=False):
            blob.reshape(*array.shape)
            blob.value = torch.from_numpy(array).to(self.context.device)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        pass

    def position(self) -> dict[str, Any]:
        return self.consumed

    def restore_position(self, position: dict[str, Any]) -> None:
        if self.ahead is not None:
            self.ahead.result()
            self.ahead = None
        self.go_to(position)
        self.transformation.restore(position["transformation"])
        self.consumed = self.whole_place()


@register
class ImageData(ImageBatches):
    """Image files named in a list, `<path> <label>` a line; in the size of new_height, new_width if they are given."""

    @property
    def batch_size(self) -> int:
        """Images in a batch."""
        return self.layer_param.image_data_param.batch_size

    def open(self) -> tuple[int, int, int]:
        """Read the list; returns (channels, height, width) of what its first image becomes."""
        param = self.layer_param.image_data_param
        self.check(
            (param.new_height > 0) == (param.new_width > 0),
            "Current implementation requires new_height and new_width to be set at the same time.",
        )
        self.lines = read_list(param.source, "<path> <label>", self.where)
        self.check(self.lines, param.source, "a list of image files", "an empty one")
        if param.shuffle:
            self.context.say("Shuffling data")
        self.context.say(f"A total of {len(self.lines)} images.")
        draws = param.shuffle or param.rand_skip
        self.order = RowOrder(1, param.shuffle, self.context.random.draw_seed() if draws else 0)
        if param.rand_skip:
            skip = int(self.order.random.integers(param.rand_skip))
            self.context.say(f"Skipping first {skip} data points.")
            self.check(skip < len(self.lines), "Not enough points to skip", f"more than {skip}", len(self.lines))
            for _ in range(skip):
                self.order.current(self.count)
                self.order.advance()
        image, name = self.load(self.order.current(self.count)[1])
        return self.transformation.shape(image)

    def count(self, index: int) -> int:
        """The number of images."""
        return len(self.lines)

    def load(self, number: int) -> tuple[np.ndarray, str]:
        """(uint8 array (channels, height, width), path) of an image of the list."""
        param = self.layer_param.image_data_param
        path = param.root_folder + self.lines[number][0]
        image = read_image(path, param.is_color, self.where)
        if param.new_height:
            image = resize(image, param.new_height, param.new_width, f"{self.where}: {path}")
        return image.transpose(2, 0, 1), path

    def read(self) -> Batch:
        images, labels, places = [], [], []
        while len(images) < self.batch_size:
            number = self.order.current(self.count)[1]
            if not self.training or self.order.offset % self.context.solver_count == self.context.solver_rank:
                image, path = self.load(number)
                images.append(self.transformation(image, f"{self.where}: {path}"))
                labels.append(self.lines[number][1])
                places.append(path)
            self.order.advance()
        return self.join(images, labels, places)

    def place(self) -> dict[str, Any]:
        return {"source": self.layer_param.image_data_param.source, **self.order.state()}

    def go_to(self, place: dict[str, Any]) -> None:
        source = self.layer_param.image_data_param.source
        if place["source"] != source:
            glog.warning(f"{self.where}: the stored data position is of {place['source']}: {source} starts anew")
            return
        self.order.restore(place)
        self.order.current(self.count)


# Columns of a line of a window file
LABEL, OVERLAP, LEFT, TOP, RIGHT, BOTTOM = range(6)


@register
class WindowData(ImageBatches):
    """Windows of image files, so many of each batch from the foreground, warped to crop_size x crop_size.

    `source` holds one paragraph an image: `# <number>`, path, channels, height, width, number of windows; then for
    each window class, overlap, x1, y1, x2, y2. Windows are drawn with replacement, background first. context_pad is how
    much of the image around a window, in pixels of the result, is seen as well; beyond the image there is 0.
    """

    @property
    def batch_size(self) -> int:
        """Images in a batch."""
        return self.layer_param.window_data_param.batch_size

    def open(self) -> tuple[int, int, int]:
        """Read the list of windows; returns (3, crop_size, crop_size)."""
        param, self.crop = self.layer_param.window_data_param, self.layer_param.transform_param.crop_size
        self.check(self.crop > 0, "a positive crop_size in transform_param", self.crop)
        known = param.crop_mode in ("warp", "square")
        self.check(known, "crop_mode warp or square", repr(param.crop_mode))
        self.check(2 * param.context_pad < self.crop, f"a context_pad below {self.crop / 2:g}", param.context_pad)
        self.random = np.random.Generator(np.random.PCG64([self.context.random.draw_seed(), self.context.solver_rank]))
        self.images, self.cache = [], {}
        self.foreground, self.background = [], []  # (index of the image, columns)
        with CaffeError.of_files(self.where):
            words = read_text(param.source, "a list of windows").split()
        try:
            channels = self.parse(words)
        except (ValueError, IndexError):
            got = f"another paragraph behind image {len(self.images)}"
            raise CaffeError(f"{self.where}: {param.source}", "# <number>, path, three sizes, windows", got) from None
        self.check(set(channels) == {3}, param.source, "images of 3 channels", sorted(set(channels)))
        for windows, count, kind in zip(
            (self.background, self.foreground), self.counts(), ("back", "fore"), strict=True
        ):
            self.check(windows or not count, param.source, f"windows of the {kind}ground", "none")
        return 3, self.crop, self.crop

    def parse(self, words: list[str]) -> list[int]:
        """Take the windows of the list's words; returns the channels of every image."""
        param, channels, at = self.layer_param.window_data_param, [], 0
        while at < len(words):
            if words[at] != "#" or whole(words[at + 1]) < 0:
                raise ValueError
            self.images.append(param.root_folder + words[at + 2])
            channels.append(whole(words[at + 3]))
            count, at = whole(words[at + 6]), at + 7
            for _ in range(count):
                label, overlap = whole(words[at]), float(np.float32(words[at + 1]))
                window = (label, overlap, *map(whole, words[at + 2 : at + 6]))
                if len(window) != 6 or window[LEFT] > window[RIGHT] or window[TOP] > window[BOTTOM]:
                    raise ValueError
                at += 6
                if overlap >= param.fg_threshold:
                    place = f"{param.source}: image {len(self.images) - 1}"
                    self.check(label > 0, place, "a class above 0 of a window of the foreground", label)
                    self.foreground.append((len(self.images) - 1, window))
                elif overlap < param.bg_threshold:
                    self.background.append((len(self.images) - 1, (0, 0.0, *window[LEFT:])))
        self.check(channels, param.source, "a list of windows", "an empty one")
        return channels

    def counts(self) -> tuple[int, int]:
        """How many windows of a batch are background and foreground."""
        share = self.layer_param.window_data_param.fg_fraction
        self.check(0 <= share <= 1, "an fg_fraction between 0 and 1", f"{share:g}")
        foreground = int(np.float32(self.batch_size) * np.float32(share))
        return self.batch_size - foreground, foreground

    def load(self, index: int) -> np.ndarray:
        """The image (height, width, 3) of number `index`."""
        if index in self.cache:
            return self.cache[index]
        image = read_image(self.images[index], True, self.where)
        if self.layer_param.window_data_param.cache_images:
            self.cache[index] = image
        return image

    def read(self) -> Batch:
        images, labels = [], []
        for windows, count in zip((self.background, self.foreground), self.counts(), strict=True):
            for _ in range(count):
                index, window = windows[self.random.integers(len(windows))]
                mirrored = self.layer_param.transform_param.mirror and self.random.integers(2)
                images.append(self.warp(index, window, bool(mirrored)))
                labels.append(window[LABEL])
        return np.stack(images), np.array(labels, np.float32)

    def warp(self, index: int, window: Sequence[float], mirrored: bool) -> np.ndarray:
        """The float32 array (3, crop_size, crop_size) of a window of an image."""
        param, crop, image = self.layer_param.window_data_param, self.crop, self.load(index)
        spans = []  # vertically, then horizontally: first and last row, where it begins in the result, how long it is
        boxes = [(int(window[TOP]), int(window[BOTTOM])), (int(window[LEFT]), int(window[RIGHT]))]
        if param.context_pad or param.crop_mode == "square":
            halves = [(last - first + 1) / 2 for first, last in boxes]
            longest = [max(halves)] * 2 if param.crop_mode == "square" else halves
            scale = crop / (crop - 2 * param.context_pad)
            for (first, _), half, reach, size in zip(boxes, halves, longest, image.shape, strict=False):
                middle = first + half
                spans.append(self.span(round_away(middle - reach * scale), round_away(middle + reach * scale), size))
        else:
            spans = [(first, last, 0, 0, crop) for first, last in boxes]
        (top, bottom, above, _, rows), (left, right, before, behind, columns) = spans
        inside = 0 <= top <= bottom < image.shape[0] and 0 <= left <= right < image.shape[1]
        place = f"{self.where}: {self.images[index]}"
        got = f"x {left} to {right}, y {top} to {bottom}"
        self.check(inside, place, f"a window inside {image.shape[1]} x {image.shape[0]}", got)
        before = behind if mirrored else before
        rows, columns = min(rows, crop - above), min(columns, crop - before)
        self.check(min(rows, columns) > 0, place, "a window of which a pixel is seen", got)
        part = resize(image[top : bottom + 1, left : right + 1], rows, columns).transpose(2, 0, 1)
        seen = (slice(above, above + rows), slice(before, before + columns))
        result = np.zeros((len(part), crop, crop), np.float32)
        means = self.window_means(part, seen, place)
        result[:, seen[0], seen[1]] = (part[..., ::-1] if mirrored else part) - means
        return result * np.float32(param.scale)

    def span(self, first: int, last: int, size: int) -> tuple[int, int, int, int, int]:
        """(first, last, before, behind, length) along an axis of `size`.

        What of first..last lies in the image; how many pixels of the result lie before and behind it, and in it.
        """
        scale = self.crop / (last - first + 1)
        before, behind = max(0, -first), max(0, last - size + 1)
        first, last = first + before, last - behind
        return first, last, *(round_away(n * scale) for n in (before, behind, last - first + 1))

    def window_means(self, part: np.ndarray, seen: tuple[slice, slice], place: str) -> np.ndarray | np.float32:
        """What is taken off a window's pixels: of a mean file, the middle of crop_size."""
        mean = self.transformation.mean
        if mean is None:
            return self.transformation.means(part, place)
        room = (mean.shape[2] - self.crop) // 2
        fits = len(mean) == len(part) and room >= 0 and mean.shape[1] >= room + self.crop
        self.check(fits, place, f"a mean of {len(part)} channels and at least {self.crop} x {self.crop}", mean.shape)
        return mean[:, room : room + self.crop, room : room + self.crop][:, seen[0], seen[1]]

    def place(self) -> dict[str, Any]:
        return {"windows": self.random.bit_generator.state}

    def go_to(self, place: dict[str, Any]) -> None:
        self.random.bit_generator.state = place["windows"]


def whole(word: str) -> int:
    """The integer that a word of a list is, of at most nine digits. Raises ValueError."""
    if not WHOLE.fullmatch(word):
        raise ValueError(word)
    return int(word)


def round_away(number: float) -> int:
    """The nearest integer, halves away from zero, as C rounds."""
    return int(np.copysign(np.floor(abs(number) + 0.5), number))
