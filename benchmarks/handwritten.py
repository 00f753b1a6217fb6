"""The paper's two networks and their training as a PyTorch user would write them: what the engine is held beside."""

import torch
from torch import nn
from torch.nn import functional


def network(name, classes=10):
    """AlexNet or AudioNet of the paper for training, pooling rounded up as Caffe's."""

    def block(inputs, outputs, kernel, *, stride=1, pad=0, groups=1, pool=None):
        made = [nn.Conv2d(inputs, outputs, kernel, stride, pad, groups=groups), nn.ReLU(inplace=True)]
        return made + ([nn.MaxPool2d(*pool, ceil_mode=True)] if pool else [])

    if name == "AlexNet":
        return nn.Sequential(
            *block(1, 96, 11, stride=4, pool=(3, 2)),
            *block(96, 256, 5, pad=2, groups=2, pool=(3, 2)),
            *block(256, 384, 3, pad=1),
            *block(384, 384, 3, pad=1, groups=2),
            *block(384, 256, 3, pad=1, groups=2, pool=(3, 2)),
            nn.Flatten(),
            nn.Linear(9216, 1024),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(1024, 1024),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(1024, classes),
        )
    channels = (1, 100, 64, 128, 128, 128, 128)
    blocks = [
        block(a, b, (1, 3), pad=(0, 1), pool=((1, 2 if i else 3), (1, 2)))
        for i, (a, b) in enumerate(zip(channels, channels[1:], strict=False))
    ]
    return nn.Sequential(
        *(layer for made in blocks for layer in made),
        nn.Flatten(),
        nn.Linear(16000, 1024),
        nn.Dropout(0.5),
        nn.Linear(1024, 512),
        nn.Dropout(0.5),
        nn.Linear(512, classes),
    )


class Loop:
    """SGD with momentum on a data set that lies on the device, batches drawn by index; step() is one iteration.

    tuned: channels_last weights, fused SGD, and on CUDA the iteration as a CUDA graph; otherwise eager with torch's
    defaults. compiled: the network by torch.compile (on the CPU only traced, which needs no compiler). half: bf16 by
    autocast. clip: limit of the gradients' norm, or None.
    """

    def __init__(self, name, data, labels, batch, *, tuned=False, compiled=False, half=False, clip=None, rate=1e-6):
        device = data.device
        self.data, self.labels, self.batch, self.half, self.clip = data, labels, batch, half, clip
        self.model = network(name).to(device)
        if tuned:
            self.model.to(memory_format=torch.channels_last)
        if compiled:
            self.model = torch.compile(self.model, backend="inductor" if device.type == "cuda" else "aot_eager")
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=rate, momentum=0.9, fused=tuned or None)
        self.order = iter(())
        self.rows = torch.zeros(batch, dtype=torch.int64, device=device)
        self.loss = torch.zeros((), device=device)
        self.graph = self._capture() if tuned and device.type == "cuda" else None

    def _capture(self):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._iterate()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._iterate()
        return graph

    def _iterate(self):
        self.optimizer.zero_grad(set_to_none=True)
        x = self.data.index_select(0, self.rows)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.half):
            scores = self.model(x)
        loss = functional.cross_entropy(scores.float(), self.labels.index_select(0, self.rows))
        loss.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip, foreach=True)
        self.optimizer.step()
        self.loss.copy_(loss.detach())

    def step(self):
        rows = next(self.order, None)
        if rows is None:
            self.order = iter(torch.randperm(len(self.data), device=self.data.device).split(self.batch))
            rows = next(self.order)
        self.rows[: len(rows)].copy_(rows)
        if self.graph is None:
            self._iterate()
        else:
            self.graph.replay()
