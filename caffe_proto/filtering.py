"""Which layers of a definition belong to a net: the include and exclude rules (NetStateRule) against a NetState."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from caffe_proto import caffe_pb2
from caffe_proto.errors import CaffeFileError


def unmet(rule: caffe_pb2.NetStateRule, state: caffe_pb2.NetState) -> str | None:
    """The first condition of `rule` that does not hold in `state`, in the original's words; None if all hold."""
    if rule.HasField("phase") and rule.phase != state.phase:
        return f"The NetState phase ({state.phase}) differed from the phase ({rule.phase}) specified by a rule"
    if rule.HasField("min_level") and state.level < rule.min_level:
        return f"The NetState level ({state.level}) is above the min_level ({rule.min_level}) specified by a rule"
    if rule.HasField("max_level") and state.level > rule.max_level:
        return f"The NetState level ({state.level}) is above the max_level ({rule.max_level}) specified by a rule"
    for stage in rule.stage:
        if stage not in state.stage:
            return f"The NetState did not contain stage '{stage}' specified by a rule"
    for stage in rule.not_stage:
        if stage in state.stage:
            return f"The NetState contained a not_stage '{stage}' specified by a rule"
    return None


def is_kept(
    layer: caffe_pb2.LayerParameter, state: caffe_pb2.NetState, say: Callable[[str], None] | None = None
) -> bool:
    """True if `layer` belongs to a net in `state`: some include rule is met, or no exclude rule is.

    `say` is told of every rule that is not met. Raises CaffeFileError for a layer with rules of both kinds.
    """
    if layer.include and layer.exclude:
        raise CaffeFileError(f"layer '{layer.name}': Specify either include rules or exclude rules; not both.")
    for rule in layer.include or layer.exclude:
        reason = unmet(rule, state)
        if reason is None:
            return bool(layer.include)
        if say:
            say(f"{reason} in layer {layer.name}")
    return not layer.include


def filter_net(net: caffe_pb2.NetParameter, say: Callable[[str], None] | None = None) -> caffe_pb2.NetParameter:
    """A copy of `net` with only the layers that its own `state` keeps (see `is_kept`)."""
    result = caffe_pb2.NetParameter()
    result.CopyFrom(net)
    del result.layer[:]
    result.layer.extend(layer for layer in net.layer if is_kept(layer, net.state, say))
    return result


def net_state(
    net: caffe_pb2.NetParameter, phase: int, level: int = 0, stages: Iterable[str] = ()
) -> caffe_pb2.NetParameter:
    """A copy of `net` whose state has this phase and level, and these stages besides its own (as files are loaded)."""
    result = caffe_pb2.NetParameter()
    result.CopyFrom(net)
    result.state.phase = int(phase)
    result.state.level = level
    result.state.stage.extend(stages)
    return result
