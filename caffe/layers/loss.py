"""Layer types that compare predictions with labels (docs/engine.md section 2.5).

The weight of a loss is the gradient of its top 0. Shapes: O = product of the axes before the class axis (entries of
the batch), K = classes, I = product of the axes behind it (positions).
"""

from __future__ import annotations

import torch

from caffe.blob import Blob
from caffe.errors import CaffeError
from caffe.layer import Layer, register
from caffe_proto import blobproto_to_array, caffe_pb2, check_finite
from caffe_proto.files import read_binary

FLT_MIN = torch.finfo(torch.float32).tiny  # smallest probability that SoftmaxWithLoss takes the logarithm of
LOG_THRESHOLD = 1e-20  # the same for MultinomialLogisticLoss and InfogainLoss


class LossLayer(Layer):
    """Base: a scalar top with loss weight 1, two bottoms with the same number of items, no gradient to labels."""

    bottoms = (2, 2)
    tops = (1, 1)
    is_loss = True
    no_gradient_to = (1,)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.check(
            bottom[0].num_axes and bottom[1].num_axes and bottom[0].shape[0] == bottom[1].shape[0],
            "The data and label should have the same first dimension",
            "as many labels as items",
            f"shapes {bottom[0].shape_string} and {bottom[1].shape_string}",
        )
        top[0].reshape()


def read_normalization(layer: Layer, default: int = caffe_pb2.LossParameter.VALID) -> int:
    """The NormalizationMode of `layer`: an explicit one wins, then `normalize`, then `default`."""
    param = layer.layer_param.loss_param
    if param.HasField("normalization") or not param.HasField("normalize"):
        return param.normalization if param.HasField("normalization") else default
    return caffe_pb2.LossParameter.VALID if param.normalize else caffe_pb2.LossParameter.BATCH_SIZE


def divisor(mode: int, outer: int, inner: int, valid: int | torch.Tensor) -> int | torch.Tensor:
    """What a loss is divided by, at least 1: FULL O*I, VALID the `valid` entries (number or tensor), BATCH_SIZE O."""
    if mode == caffe_pb2.LossParameter.VALID:
        return valid.clamp_min(1) if isinstance(valid, torch.Tensor) else max(valid, 1)
    return max(
        1,
        {
            caffe_pb2.LossParameter.FULL: outer * inner,
            caffe_pb2.LossParameter.BATCH_SIZE: outer,
            caffe_pb2.LossParameter.NONE: 1,
        }[mode],
    )


class LabelReader:
    """Mixin of layers whose bottom 1 holds the number of a class for each entry and position of bottom 0."""

    axis, ignore = 1, None
    reads_labels = True

    def layout(self, blob: Blob) -> tuple[int, int, int]:
        """(O, K, I) of a prediction blob."""
        return blob.count_from(0, self.axis), blob.shape[self.axis], blob.count_from(self.axis + 1)

    def read_labels(self, bottom: list[Blob]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Labels as int64 (O, 1, I), truncated towards 0, and where they are not `ignore` (bool; None: all kept).

        Ignored labels read as 0. Raises CaffeError for a label outside 0..K-1, naming it and its place; not while a
        graph is captured, before which all labels have been looked at (caffe.graph.check_labels).
        """
        outer, classes, inner = self.layout(bottom[0])
        raw = bottom[1].value.reshape(outer, 1, inner)
        labels = raw.long()
        keep = None
        if self.ignore is not None:
            keep = labels != self.ignore
            labels = labels.where(keep, 0)
        if labels.numel() and not self.context.capturing:
            low, high = labels.aminmax()
            if low < 0 or high >= classes:
                where = ((labels < 0) | (labels >= classes)).nonzero()[0].tolist()
                place = f"item {where[0]}" + (f", position {where[2]}" if inner > 1 else "")
                raise CaffeError(self.where, f"0..{classes - 1}", f"label {raw[tuple(where)].item():g} at {place}")
        return labels, keep


def check_label_count(layer: Layer, prediction: Blob, label: Blob, axis: int) -> None:
    """Raise CaffeError unless `label` has one entry for each prediction (O * I)."""
    count = prediction.count // max(prediction.shape[axis], 1)
    layer.check(
        label.count == count,
        "Number of labels must match number of predictions; e.g., if softmax axis == 1 and prediction shape is "
        "(N, C, H, W), label count (number of labels) must be N*H*W, with integer values in {0, 1, ..., C-1}",
        f"{count} labels",
        label.count,
    )


@register
class SoftmaxWithLoss(LabelReader, LossLayer):
    """Mean of -log(softmax probability of the label) over entries whose label is not ignore_label. Top 1: softmax."""

    tops = (1, 2)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.mode = read_normalization(self)
        param = self.layer_param.loss_param
        self.ignore = param.ignore_label if param.HasField("ignore_label") else None

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        self.axis = bottom[0].axis(self.layer_param.softmax_param.axis)
        check_label_count(self, bottom[0], bottom[1], self.axis)
        if len(top) > 1:
            top[1].reshape(*bottom[0].shape)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        outer, _, inner = layout = self.layout(bottom[0])
        self.probability = bottom[0].value.softmax(self.axis)
        self.labels, self.keep = self.read_labels(bottom)
        terms = -self.probability.reshape(layout).gather(1, self.labels).clamp_min(FLT_MIN).log()
        valid = outer * inner if self.keep is None else self.keep.sum()
        self.divisor = divisor(self.mode, outer, inner, valid)
        top[0].value = (terms if self.keep is None else terms * self.keep).sum() / self.divisor
        if len(top) > 1:
            top[1].value = self.probability

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.refuse_label_gradient(propagate_down)
        if propagate_down[0]:
            layout = self.layout(bottom[0])
            scale = top[0].grad / self.divisor
            grad = self.probability.reshape(layout).clone()
            grad.scatter_add_(1, self.labels, grad.new_full((), -1.0).expand_as(self.labels))
            bottom[0].grad = grad.mul_(scale if self.keep is None else scale * self.keep).reshape(bottom[0].shape)


@register
class Accuracy(LabelReader, Layer):
    """Share of entries whose label is among the top_k highest scores; other classes that tie with it count against it.

    So does a class whose score is NaN, and an entry whose label's score is NaN is wrong. The original, for which NaN
    ties with nothing, calls such entries right: an accuracy of 1 where all scores are NaN.
    Entries labelled ignore_label do not count. Top 1 (K): accuracy of each class, 0 for absent ones. No gradient.
    """

    bottoms = (2, 2)
    tops = (1, 2)
    no_gradient_to = (0, 1)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.accuracy_param
        self.top_k = param.top_k
        self.ignore = param.ignore_label if param.HasField("ignore_label") else None

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.check(
            self.top_k <= bottom[0].count // max(bottom[1].count, 1),
            "top_k must be less than or equal to the number of classes",
            f"at most {bottom[0].count // max(bottom[1].count, 1)}",
            self.top_k,
        )
        self.axis = bottom[0].axis(self.layer_param.accuracy_param.axis)
        check_label_count(self, bottom[0], bottom[1], self.axis)
        top[0].reshape()
        if len(top) > 1:
            top[1].reshape(bottom[0].shape[self.axis])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        layout = _, classes, _ = self.layout(bottom[0])
        scores = bottom[0].value.reshape(layout)
        labels, keep = self.read_labels(bottom)
        true = scores.gather(1, labels)
        rivals = (~(scores < true)).sum(1, keepdim=True) - 1  # NaN is not less either
        right = (rivals < self.top_k) & ~true.isnan()
        keep = torch.ones_like(right) if keep is None else keep
        right &= keep
        top[0].value = right.sum() / keep.sum().clamp_min(1)
        if len(top) > 1:
            counts = scores.new_zeros(2, classes)
            counts.index_add_(1, labels.flatten(), torch.stack((right.flatten(), keep.flatten())).to(counts))
            top[1].value = counts[0] / counts[1].clamp_min(1)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if any(propagate_down):
            super().backward(top, propagate_down, bottom)


def same_count(layer: Layer, bottom: list[Blob], words: str) -> None:
    """Raise CaffeError, after the `words` of BVLC Caffe, unless bottoms 0 and 1 have equally many elements."""
    layer.check(
        bottom[0].count == bottom[1].count,
        words,
        "equal counts",
        f"shapes {bottom[0].shape_string} and {bottom[1].shape_string}",
    )


@register
class SigmoidCrossEntropyLoss(LossLayer):
    """Cross entropy of sigmoid(bottom 0) with targets in [0, 1] (bottom 1), summed; BATCH_SIZE is the default divisor.

    Targets that truncate to ignore_label are left out.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.mode = read_normalization(self, caffe_pb2.LossParameter.BATCH_SIZE)
        param = self.layer_param.loss_param
        self.ignore = param.ignore_label if param.HasField("ignore_label") else None

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        same_count(self, bottom, "SIGMOID_CROSS_ENTROPY_LOSS layer inputs must have the same count")

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x, target = bottom[0].value, bottom[1].value.reshape(bottom[0].shape)
        terms = torch.log1p(torch.exp(-x.abs())) - x * (target - (x >= 0).to(x.dtype))
        outer, inner = bottom[0].shape[0], bottom[0].count_from(1)
        self.keep = None if self.ignore is None else target.long() != self.ignore
        self.divisor = divisor(self.mode, outer, inner, outer * inner if self.keep is None else self.keep.sum())
        top[0].value = (terms if self.keep is None else terms * self.keep).sum() / self.divisor

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.refuse_label_gradient(propagate_down)
        if propagate_down[0]:
            x, target = bottom[0].value, bottom[1].value.reshape(bottom[0].shape)
            scale = top[0].grad / self.divisor
            bottom[0].grad = (x.sigmoid() - target) * (scale if self.keep is None else scale * self.keep)


@register
class EuclideanLoss(LossLayer):
    """Sum of squared differences / (2 N); both bottoms get a gradient."""

    no_gradient_to = ()

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        same_count(self, bottom, "Inputs must have the same dimension")

    def difference(self, bottom: list[Blob]) -> torch.Tensor:
        """Bottom 0 - bottom 1, in bottom 0's shape."""
        return bottom[0].value - bottom[1].value.reshape(bottom[0].shape)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].value = self.difference(bottom).square().sum() / (2 * bottom[0].shape[0])

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        grad = self.difference(bottom) * (top[0].grad / bottom[0].shape[0])
        if propagate_down[1]:
            bottom[1].grad = -grad.reshape(bottom[1].shape)
        if propagate_down[0]:
            bottom[0].grad = grad


@register
class HingeLoss(LabelReader, LossLayer):
    """One-versus-all hinge: mean over items of sum over classes of max(0, 1 - s x) (L1) or its square (L2).

    s is 1 for the label's class and -1 for the others.
    """

    def layout(self, blob: Blob) -> tuple[int, int, int]:
        return blob.shape[0], blob.count_from(1), 1

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        items = bottom[0].shape[0]
        x = bottom[0].value.reshape(items, -1, 1)
        self.check(bottom[1].count == items, f"{items} labels, one for each item", bottom[1].count)
        labels, _ = self.read_labels(bottom)
        self.sign = torch.ones_like(x).scatter_(1, labels, -1.0)
        self.margin = (1 + self.sign * x).clamp_min(0)
        terms = self.margin if self.l1 else self.margin.square()
        top[0].value = terms.sum() / items

    @property
    def l1(self) -> bool:
        """True for norm L1, False for L2."""
        return self.layer_param.hinge_loss_param.norm == caffe_pb2.HingeLossParameter.L1

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.refuse_label_gradient(propagate_down)
        if propagate_down[0]:
            slope = self.margin.sign() if self.l1 else 2 * self.margin
            bottom[0].grad = (self.sign * slope * (top[0].grad / bottom[0].shape[0])).reshape(bottom[0].shape)


@register
class ContrastiveLoss(LossLayer):
    """Pairs (bottoms 0 and 1, (N, C)): similar ones (bottom 2 not 0) cost d^2, others max(margin - d, 0)^2; / (2 N).

    d is the Euclidean distance. With legacy_version other pairs cost max(margin - d^2, 0).
    """

    bottoms = (3, 3)
    no_gradient_to = (2,)
    TINY = 1e-4  # added to the distance that the gradient is divided by

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        same_count(self, bottom, "Both members of the pairs must have the same size")
        self.check(bottom[2].count == bottom[0].shape[0], f"{bottom[0].shape[0]} labels", bottom[2].count)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        param, items = self.layer_param.contrastive_loss_param, bottom[0].shape[0]
        self.difference = (bottom[0].value - bottom[1].value.reshape(bottom[0].shape)).reshape(items, -1)
        square = self.difference.square().sum(1)
        self.distance = square.sqrt()
        self.similar = bottom[2].value.reshape(items).long() != 0
        self.gap = (param.margin - (square if param.legacy_version else self.distance)).clamp_min(0)
        far = self.gap if param.legacy_version else self.gap.square()
        top[0].value = torch.where(self.similar, square, far).sum() / (2 * items)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.check(not propagate_down[2], "ContrastiveLoss Layer cannot backpropagate to label inputs.")
        legacy = self.layer_param.contrastive_loss_param.legacy_version
        push = self.gap.sign() if legacy else self.gap / (self.distance + self.TINY)
        factor = torch.where(self.similar, 1.0, -push) * (top[0].grad / bottom[0].shape[0])
        grad = self.difference * factor[:, None]
        for i, sign in enumerate((1, -1)):
            if propagate_down[i]:
                bottom[i].grad = (grad * sign).reshape(bottom[i].shape)


@register
class MultinomialLogisticLoss(LabelReader, LossLayer):
    """Mean of -log(probability of the label); bottom 0 (N, K) holds probabilities."""

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        self.check(
            bottom[1].count == bottom[0].shape[0],
            f"{bottom[0].shape[0]} labels, one for each item",
            bottom[1].count,
        )

    def layout(self, blob: Blob) -> tuple[int, int, int]:
        return blob.shape[0], blob.count_from(1), 1

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        items = bottom[0].shape[0]
        x = bottom[0].value.reshape(items, -1, 1)
        self.labels, _ = self.read_labels(bottom)
        self.chosen = x.gather(1, self.labels).clamp_min(LOG_THRESHOLD)
        top[0].value = -self.chosen.log().sum() / items

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.refuse_label_gradient(propagate_down)
        if propagate_down[0]:
            items = bottom[0].shape[0]
            grad = self.chosen.new_zeros(items, bottom[0].count_from(1), 1)
            grad.scatter_(1, self.labels, -top[0].grad / items / self.chosen)
            bottom[0].grad = grad.reshape(bottom[0].shape)


@register
class InfogainLoss(LabelReader, LossLayer):
    """-sum over classes l of H[label, l] log(softmax probability of l), for an infogain matrix H (K, K).

    H is bottom 2, or a BlobProto file (`source`). Top 1: softmax.
    """

    bottoms = (2, 3)
    tops = (1, 2)
    no_gradient_to = (1, 2)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        param = self.layer_param.loss_param
        self.check(not param.HasField("normalize"), 'normalize is deprecated. use "normalization"')
        self.mode = read_normalization(self)
        self.ignore = param.ignore_label if param.HasField("ignore_label") else None
        self.matrix = None
        if len(bottom) < 3:
            source = self.layer_param.infogain_loss_param.source
            self.check(source, "Infogain matrix source must be specified.")
            self.matrix = self.read_matrix(source)

    def read_matrix(self, source: str) -> torch.Tensor:
        """The BlobProto in file `source` as a tensor."""
        with CaffeError.of_files(self.where):
            matrix = blobproto_to_array(read_binary(source, caffe_pb2.BlobProto()), source)
        check_finite(matrix, f"{self.where}: {source}")
        return torch.from_numpy(matrix)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        self.axis = bottom[0].axis(self.layer_param.infogain_loss_param.axis)
        check_label_count(self, bottom[0], bottom[1], self.axis)
        classes = bottom[0].shape[self.axis]
        found = bottom[2].count if len(bottom) > 2 else self.matrix.numel()
        self.check(found == classes * classes, f"an infogain matrix of {classes} x {classes}", f"{found} elements")
        if len(top) > 1:
            top[1].reshape(*bottom[0].shape)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        outer, classes, inner = layout = self.layout(bottom[0])
        if self.matrix is not None:
            self.matrix = self.matrix.to(bottom[0].value)
        matrix = bottom[2].value if len(bottom) > 2 else self.matrix
        self.probability = bottom[0].value.softmax(self.axis)
        labels, self.keep = self.read_labels(bottom)
        # (O, K, I): the matrix row of each entry's label along the class axis
        self.gain = matrix.reshape(classes, classes)[labels[:, 0]].movedim(-1, 1)
        terms = self.gain * self.probability.reshape(layout).clamp_min(LOG_THRESHOLD).log()
        valid = outer * inner if self.keep is None else self.keep.sum()
        self.divisor = divisor(self.mode, outer, inner, valid)
        top[0].value = -(terms if self.keep is None else terms * self.keep).sum() / self.divisor
        if len(top) > 1:
            top[1].value = self.probability

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        self.refuse_label_gradient(propagate_down)
        self.check(
            len(bottom) < 3 or not propagate_down[2], "InfogainLoss Layer cannot backpropagate to infogain inputs."
        )
        if propagate_down[0]:
            scale = top[0].grad / self.divisor
            probability = self.probability.reshape(self.gain.shape)
            grad = probability * self.gain.sum(1, keepdim=True) - self.gain
            bottom[0].grad = (grad * (scale if self.keep is None else scale * self.keep)).reshape(bottom[0].shape)
