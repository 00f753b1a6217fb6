"""Layer types that compare predictions with labels (caffe_semantics: loss layers).

The weight of a loss is the gradient of its top 0. Shapes: O = product of the axes before the class axis (entries of
the batch), K = classes, I = product of the axes behind it (positions).
"""

import torch

from caffe.errors import CaffeError
from caffe.layer import Layer, register
from caffe_proto import caffe_pb2

FLT_MIN = torch.finfo(torch.float32).tiny  # smallest positive probability that a loss sees


class LossLayer(Layer):
    """Base: a scalar top with loss weight 1, two bottoms with the same number of items, no gradient to labels."""

    bottoms = (2, 2)
    tops = (1, 1)
    is_loss = True
    no_gradient_to = (1,)

    def reshape(self, bottom, top):
        self.check(bottom[0].num_axes and bottom[1].num_axes and bottom[0].shape[0] == bottom[1].shape[0],
                   "The data and label should have the same first dimension. "
                   f"Found {bottom[0].shape_string} and {bottom[1].shape_string}")
        top[0].reshape()


def read_normalization(layer, default=caffe_pb2.LossParameter.VALID):
    """The NormalizationMode of `layer`: an explicit one wins, then `normalize`, then `default`."""
    param = layer.layer_param.loss_param
    if param.HasField("normalization") or not param.HasField("normalize"):
        return param.normalization if param.HasField("normalization") else default
    return caffe_pb2.LossParameter.VALID if param.normalize else caffe_pb2.LossParameter.BATCH_SIZE


def divisor(mode, outer, inner, valid):
    """What a loss is divided by, at least 1: FULL O*I, VALID the `valid` entries (number or tensor), BATCH_SIZE O."""
    if mode == caffe_pb2.LossParameter.VALID:
        return valid.clamp_min(1) if isinstance(valid, torch.Tensor) else max(valid, 1)
    return max(1, {caffe_pb2.LossParameter.FULL: outer * inner, caffe_pb2.LossParameter.BATCH_SIZE: outer,
                   caffe_pb2.LossParameter.NONE: 1}[mode])


def read_labels(layer, blob, outer, inner, classes, ignore=None):
    """Labels of `blob` as int64 (O, 1, I), truncated towards 0, and where they are not `ignore` (bool; None: all kept).

    Ignored labels read as 0. Raises CaffeError for a label outside 0..classes-1, naming it and its place. While a CUDA
    graph is captured nothing can be raised: such labels are then read as the nearest class.
    """
    raw = blob.value.reshape(outer, 1, inner)
    labels = raw.long()
    keep = None
    if ignore is not None:
        keep = labels != ignore
        labels = labels.where(keep, 0)
    capturing = labels.is_cuda and torch.cuda.is_current_stream_capturing()
    if not capturing and labels.numel():
        low, high = labels.aminmax()
        if low < 0 or high >= classes:
            where = ((labels < 0) | (labels >= classes)).nonzero()[0].tolist()
            place = f"item {where[0]}" + (f", position {where[2]}" if inner > 1 else "")
            raise CaffeError(f"{layer.where}: found label {raw[tuple(where)].item():g} at {place}; "
                             f"wanted 0..{classes - 1}")
    return labels.clamp(0, classes - 1) if capturing else labels, keep


def check_label_count(layer, prediction, label, axis):
    """Raise CaffeError unless `label` has one entry for each prediction (O * I)."""
    wanted = prediction.count // max(prediction.shape[axis], 1)
    layer.check(label.count == wanted,
                "Number of labels must match number of predictions; e.g., if softmax axis == 1 and prediction shape is "
                "(N, C, H, W), label count (number of labels) must be N*H*W, with integer values in {0, 1, ..., C-1}. "
                f"Found {label.count} labels; wanted {wanted}")


def label_layout(blob, axis):
    """(O, K, I) of a prediction blob."""
    return blob.count_from(0, axis), blob.shape[axis], blob.count_from(axis + 1)


@register
class SoftmaxWithLoss(LossLayer):
    """Mean of -log(softmax probability of the label) over entries whose label is not ignore_label. Top 1: softmax."""

    tops = (1, 2)

    def setup(self, bottom, top):
        self.mode = read_normalization(self)
        param = self.layer_param.loss_param
        self.ignore = param.ignore_label if param.HasField("ignore_label") else None

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.axis = bottom[0].axis(self.layer_param.softmax_param.axis)
        check_label_count(self, bottom[0], bottom[1], self.axis)
        if len(top) > 1:
            top[1].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        outer, classes, inner = layout = label_layout(bottom[0], self.axis)
        self.probability = bottom[0].value.softmax(self.axis)
        self.labels, self.keep = read_labels(self, bottom[1], outer, inner, classes, self.ignore)
        terms = -self.probability.reshape(layout).gather(1, self.labels).clamp_min(FLT_MIN).log()
        valid = outer * inner if self.keep is None else self.keep.sum()
        self.divisor = divisor(self.mode, outer, inner, valid)
        top[0].value = (terms if self.keep is None else terms * self.keep).sum() / self.divisor
        if len(top) > 1:
            top[1].value = self.probability

    def backward(self, top, propagate_down, bottom):
        self.refuse_label_gradient(propagate_down)
        if propagate_down[0]:
            layout = label_layout(bottom[0], self.axis)
            scale = top[0].grad / self.divisor
            grad = self.probability.reshape(layout).clone()
            grad.scatter_add_(1, self.labels, grad.new_full((), -1.0).expand_as(self.labels))
            bottom[0].grad = grad.mul_(scale if self.keep is None else scale * self.keep).view(bottom[0].shape)


@register
class Accuracy(Layer):
    """Share of entries whose label is among the top_k highest scores; other classes that tie with it count against it.

    Entries labelled ignore_label do not count. Top 1 (K): accuracy of each class, 0 for absent ones. No gradient.
    """

    bottoms = (2, 2)
    tops = (1, 2)
    no_gradient_to = (0, 1)

    def setup(self, bottom, top):
        param = self.layer_param.accuracy_param
        self.top_k = param.top_k
        self.ignore = param.ignore_label if param.HasField("ignore_label") else None

    def reshape(self, bottom, top):
        self.check(self.top_k <= bottom[0].count // max(bottom[1].count, 1),
                   f"top_k must be less than or equal to the number of classes. Found top_k {self.top_k}")
        self.axis = bottom[0].axis(self.layer_param.accuracy_param.axis)
        check_label_count(self, bottom[0], bottom[1], self.axis)
        top[0].reshape()
        if len(top) > 1:
            top[1].reshape(bottom[0].shape[self.axis])

    def forward(self, bottom, top):
        outer, classes, inner = layout = label_layout(bottom[0], self.axis)
        scores = bottom[0].value.reshape(layout)
        labels, keep = read_labels(self, bottom[1], outer, inner, classes, self.ignore)
        rivals = (scores >= scores.gather(1, labels)).sum(1, keepdim=True) - 1
        right = rivals < self.top_k
        keep = torch.ones_like(right) if keep is None else keep
        right &= keep
        top[0].value = right.sum() / keep.sum().clamp_min(1)
        if len(top) > 1:
            counts = scores.new_zeros(2, classes)
            counts.index_add_(1, labels.flatten(), torch.stack((right.flatten(), keep.flatten())).to(counts))
            top[1].value = counts[0] / counts[1].clamp_min(1)

    def backward(self, top, propagate_down, bottom):
        if any(propagate_down):
            super().backward(top, propagate_down, bottom)
