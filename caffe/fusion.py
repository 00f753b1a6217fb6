"""Operator fusion: Convolution + ReLU + MAX pooling in one step, when nobody looks at the blobs in between.

On any device a ReLU in place behind a convolution is done by its neighbours. Forward, the convolution applies it to its
result as it writes it (an epilogue). Backward, where a MAX pooling alone reads the ReLU, the gradient arrives at
winners only, and a winner's value is the pooled value: the pooling masks its own gradient, a fraction of the size.

On the CPU convolution, ReLU and MAX pooling in overlapping windows become one block (caffe.blocks). Values are the same
bit for bit, gradients up to rounding (a bias's gradient is summed over the winners only).

One value differs: oneDNN's ReLU makes NaN 0, and only a pass of its own over the result would keep it. NaN is therefore
looked for where it comes from: data and weights are checked on loading, weights and losses at each display, test and
snapshot (caffe.finite), the scores that are compared with labels in `caffe test`.
"""

from __future__ import annotations

from dataclasses import replace

from caffe.plan import Plan, Step


def fuse(plan: Plan) -> Plan:
    """`plan` with fewer steps: layers say themselves which functions they can apply, and which they are.

    See Layer.as_epilogue, Layer.epilogues, Layer.gradient_epilogues and Layer.make_block.
    """
    nodes, forward, backward = plan.net.nodes, {}, {}
    for i, node in enumerate(nodes):
        function = node.layer.as_epilogue
        if function is None or node.bottom_ids != node.top_ids:
            continue
        blob = node.top_ids[0]
        producers = [j for j in range(i) if blob in nodes[j].top_ids]
        consumers = [j for j in range(i + 1, len(nodes)) if blob in nodes[j].bottom_ids]
        p, c = producers[-1], consumers[0] if len(consumers) == 1 else None
        before = nodes[p] if function in nodes[p].layer.epilogues and len(nodes[p].tops) == 1 else None
        behind = None
        if c is not None and function in nodes[c].layer.gradient_epilogues and len(nodes[c].tops) == 1:
            behind = nodes[c]
        block = None
        if before and behind and len(producers) == 1 and plan.net.context.device.type == "cpu":
            block = before.layer.make_block(
                behind.layer, before.bottoms[0], before.tops[0], behind.tops[0], before.propagate_down[0]
            )
        if block:
            forward[p], backward[c] = _block_steps(block, before, node, behind)
            forward[i] = forward[c] = backward[p] = backward[i] = ()
            continue
        if before:
            forward[p], forward[i] = (_forward(before, node, function),), ()
        if behind:
            backward[i] = ()
            if behind.need_backward:
                backward[c] = (_backward(behind, node, function),)
    return replace(plan.with_steps(forward, backward), observer=None)


def _forward(node, following, function):
    def run():
        node.layer.reshape(node.bottoms, node.tops)
        node.layer.forward_with(function, node.bottoms, node.tops)

    return Step("forward", f"{node.name} ({node.param.type}) + {following.name}", run, (node.layer,))


def _backward(node, preceding, function):
    def run():
        node.layer.backward_with(function, node.tops, node.propagate_down, node.bottoms)

    return Step("backward", f"{node.name} ({node.param.type}) + {preceding.name}", run, (node.layer,))


def _block_steps(block, *nodes):
    """(forward steps, backward steps) of a block that does the work of `nodes`."""
    first, last = nodes[0], nodes[-1]

    def forward():
        first.layer.reshape(first.bottoms, first.tops)
        block.forward()

    names = " + ".join(node.name for node in nodes)
    made = (Step("forward", f"{names} ({block.kind})", forward),)
    back = (Step("backward", f"{names} ({block.kind})", block.backward, (block,)),)
    return made, back if last.need_backward else ()
