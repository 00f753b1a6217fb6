"""Classic networks as NetSpecs, each a function of its input size, written from the papers.

The functions use pycaffe's names only and run under this project's `caffe` and under the original's. Every net ends in
a SoftmaxWithLoss over the input `label`; dropout ratios are 0 and sizes small, so that two engines compare fast.
`NETS` is the registry: a net added there is compared by every test of test_classic_nets.py and by the golden recipe.
"""

import os

import pycaffe_cases

import caffe
from caffe import layers as L
from caffe import params as P

BATCH = 2


def inputs(n, channels, height, width, labels=(), batch=BATCH):
    n.data = L.Input(shape={"dim": [batch, channels, height, width]})
    n.label = L.Input(shape={"dim": [batch, *labels]})


def lenet():
    """LeCun et al. 1998, in the form that Caffe made known: max pooling, ReLU after the first inner product."""
    n = caffe.NetSpec()
    inputs(n, 1, 28, 28)
    n.conv1 = L.Convolution(n.data, num_output=20, kernel_size=5)
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.conv2 = L.Convolution(n.pool1, num_output=50, kernel_size=5)
    n.pool2 = L.Pooling(n.conv2, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.ip1 = L.InnerProduct(n.pool2, num_output=100)
    n.relu1 = L.ReLU(n.ip1, in_place=True)
    n.ip2 = L.InnerProduct(n.relu1, num_output=10)
    n.loss = L.SoftmaxWithLoss(n.ip2, n.label)
    return n.to_proto()


def cifar10_quick():
    """Krizhevsky's small CIFAR-10 net without normalisation: one max pooling, then average pooling."""
    n = caffe.NetSpec()
    inputs(n, 3, 32, 32)
    n.conv1 = L.Convolution(n.data, num_output=32, kernel_size=5, pad=2)
    n.pool1 = L.Pooling(n.conv1, kernel_size=3, stride=2, pool=P.Pooling.MAX)
    n.relu1 = L.ReLU(n.pool1, in_place=True)
    n.conv2 = L.Convolution(n.relu1, num_output=32, kernel_size=5, pad=2)
    n.relu2 = L.ReLU(n.conv2, in_place=True)
    n.pool2 = L.Pooling(n.relu2, kernel_size=3, stride=2, pool=P.Pooling.AVE)
    n.conv3 = L.Convolution(n.pool2, num_output=64, kernel_size=5, pad=2)
    n.relu3 = L.ReLU(n.conv3, in_place=True)
    n.pool3 = L.Pooling(n.relu3, kernel_size=3, stride=2, pool=P.Pooling.AVE)
    n.ip1 = L.InnerProduct(n.pool3, num_output=64)
    n.ip2 = L.InnerProduct(n.ip1, num_output=10)
    n.loss = L.SoftmaxWithLoss(n.ip2, n.label)
    return n.to_proto()


def cifar10_full():
    """Krizhevsky's larger CIFAR-10 net: local response normalisation within channels, one inner product."""
    n = caffe.NetSpec()
    norm = {"local_size": 3, "alpha": 5e-5, "beta": 0.75, "norm_region": P.LRN.WITHIN_CHANNEL}
    inputs(n, 3, 32, 32)
    n.conv1 = L.Convolution(n.data, num_output=32, kernel_size=5, pad=2)
    n.pool1 = L.Pooling(n.conv1, kernel_size=3, stride=2, pool=P.Pooling.MAX)
    n.relu1 = L.ReLU(n.pool1, in_place=True)
    n.norm1 = L.LRN(n.relu1, **norm)
    n.conv2 = L.Convolution(n.norm1, num_output=32, kernel_size=5, pad=2)
    n.relu2 = L.ReLU(n.conv2, in_place=True)
    n.pool2 = L.Pooling(n.relu2, kernel_size=3, stride=2, pool=P.Pooling.AVE)
    n.norm2 = L.LRN(n.pool2, **norm)
    n.conv3 = L.Convolution(n.norm2, num_output=64, kernel_size=5, pad=2)
    n.relu3 = L.ReLU(n.conv3, in_place=True)
    n.pool3 = L.Pooling(n.relu3, kernel_size=3, stride=2, pool=P.Pooling.AVE)
    n.ip1 = L.InnerProduct(n.pool3, num_output=10)
    n.loss = L.SoftmaxWithLoss(n.ip1, n.label)
    return n.to_proto()


def imagenet_2012(pool_before_norm, size=99, width=256):
    """Krizhevsky et al. 2012 with two groups; `pool_before_norm` swaps the order as CaffeNet does."""
    n = caffe.NetSpec()
    inputs(n, 3, size, size)

    def pool_and_norm(top, k):
        def pool(bottom):
            n[f"pool{k}"] = L.Pooling(bottom, kernel_size=3, stride=2, pool=P.Pooling.MAX)
            return n[f"pool{k}"]

        def norm(bottom):
            n[f"norm{k}"] = L.LRN(bottom, local_size=5, alpha=1e-4, beta=0.75)
            return n[f"norm{k}"]

        return norm(pool(top)) if pool_before_norm else pool(norm(top))

    n.conv1 = L.Convolution(n.data, num_output=96, kernel_size=11, stride=4)
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.conv2 = L.Convolution(pool_and_norm(n.relu1, 1), num_output=256, kernel_size=5, pad=2, group=2)
    n.relu2 = L.ReLU(n.conv2, in_place=True)
    n.conv3 = L.Convolution(pool_and_norm(n.relu2, 2), num_output=384, kernel_size=3, pad=1)
    n.relu3 = L.ReLU(n.conv3, in_place=True)
    n.conv4 = L.Convolution(n.relu3, num_output=384, kernel_size=3, pad=1, group=2)
    n.relu4 = L.ReLU(n.conv4, in_place=True)
    n.conv5 = L.Convolution(n.relu4, num_output=256, kernel_size=3, pad=1, group=2)
    n.relu5 = L.ReLU(n.conv5, in_place=True)
    n.pool5 = L.Pooling(n.relu5, kernel_size=3, stride=2, pool=P.Pooling.MAX)
    top = n.pool5
    for k in (6, 7):
        n[f"fc{k}"] = L.InnerProduct(top, num_output=width)
        n[f"relu{k}"] = L.ReLU(n[f"fc{k}"], in_place=True)
        n[f"drop{k}"] = top = L.Dropout(n[f"relu{k}"], dropout_ratio=0, in_place=True)
    n.fc8 = L.InnerProduct(top, num_output=20)
    n.loss = L.SoftmaxWithLoss(n.fc8, n.label)
    return n.to_proto()


def alexnet():
    """Krizhevsky et al. 2012: normalisation, then pooling."""
    return imagenet_2012(pool_before_norm=False)


def caffenet():
    """The Caffe model zoo's variant: pooling, then normalisation."""
    return imagenet_2012(pool_before_norm=True)


# Szegedy et al. 2014, table 1: 1x1, 3x3 reduction, 3x3, 5x5 reduction, 5x5, projection after pooling
INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def googlenet(size=64):
    """Szegedy et al. 2014 with both auxiliary classifiers (weight 0.3); its last pooling covers the whole map."""
    n = caffe.NetSpec()
    inputs(n, 3, size, size, batch=1)

    def conv(name, bottom, num_output, kernel_size, **settings):
        n[name] = L.Convolution(bottom, num_output=num_output, kernel_size=kernel_size, **settings)
        n[f"{name}_relu"] = L.ReLU(n[name], in_place=True)
        return n[f"{name}_relu"]

    def pool(name, bottom, kernel_size=3, stride=2, method=P.Pooling.MAX, **settings):
        n[name] = L.Pooling(bottom, kernel_size=kernel_size, stride=stride, pool=method, **settings)
        return n[name]

    def norm(name, bottom):
        n[name] = L.LRN(bottom, local_size=5, alpha=1e-4, beta=0.75)
        return n[name]

    def inception(block, bottom):
        one, reduce3, three, reduce5, five, projection = INCEPTION[block]
        name = f"inception_{block}"
        branches = [
            conv(f"{name}/1x1", bottom, one, 1),
            conv(f"{name}/3x3", conv(f"{name}/3x3_reduce", bottom, reduce3, 1), three, 3, pad=1),
            conv(f"{name}/5x5", conv(f"{name}/5x5_reduce", bottom, reduce5, 1), five, 5, pad=2),
            conv(f"{name}/pool_proj", pool(f"{name}/pool", bottom, stride=1, pad=1), projection, 1),
        ]
        n[f"{name}/output"] = L.Concat(*branches)
        return n[f"{name}/output"]

    def classifier(name, bottom, weight):
        n[f"{name}/classifier"] = L.InnerProduct(bottom, num_output=20)
        n[f"{name}/loss"] = L.SoftmaxWithLoss(n[f"{name}/classifier"], n.label, loss_weight=weight)

    def auxiliary(name, bottom):
        top = conv(f"{name}/conv", pool(f"{name}/pool", bottom, 5, 3, P.Pooling.AVE), 128, 1)
        n[f"{name}/fc"] = L.InnerProduct(top, num_output=1024)
        n[f"{name}/relu_fc"] = L.ReLU(n[f"{name}/fc"], in_place=True)
        n[f"{name}/drop_fc"] = L.Dropout(n[f"{name}/relu_fc"], dropout_ratio=0, in_place=True)
        classifier(name, n[f"{name}/drop_fc"], 0.3)

    top = norm("norm1", pool("pool1", conv("conv1", n.data, 64, 7, stride=2, pad=3)))
    top = conv("conv2", conv("conv2_reduce", top, 64, 1), 192, 3, pad=1)
    top = pool("pool2", norm("norm2", top))
    top = pool("pool3", inception("3b", inception("3a", top)))
    top = inception("4a", top)
    auxiliary("loss1", top)
    top = inception("4d", inception("4c", inception("4b", top)))
    auxiliary("loss2", top)
    top = inception("5b", inception("5a", pool("pool4", inception("4e", top))))
    top = pool("pool5", top, size // 32, 1, P.Pooling.AVE)
    n.drop = L.Dropout(top, dropout_ratio=0, in_place=True)
    classifier("loss3", n.drop, 1)
    return n.to_proto()


def resnet(blocks=1):
    """He et al. 2015 for CIFAR-10: stages of 16, 32 and 64 channels, 1x1 shortcut where the size drops."""
    n = caffe.NetSpec()
    inputs(n, 3, 32, 32)

    def conv(name, bottom, num_output, kernel_size, stride=1):
        n[name] = L.Convolution(
            bottom, num_output=num_output, kernel_size=kernel_size, stride=stride, pad=kernel_size // 2, bias_term=False
        )
        n[f"{name}_bn"] = L.BatchNorm(n[name], in_place=True)
        n[f"{name}_scale"] = L.Scale(n[f"{name}_bn"], bias_term=True, in_place=True)
        return n[f"{name}_scale"]

    def relu(name, bottom):
        n[name] = L.ReLU(bottom, in_place=True)
        return n[name]

    top = relu("conv1_relu", conv("conv1", n.data, 16, 3))
    for stage, channels in enumerate((16, 32, 64)):
        for block in range(blocks):
            name = f"res{stage}_{block}"
            stride = 2 if stage and not block else 1
            branch = relu(f"{name}a_relu", conv(f"{name}a", top, channels, 3, stride))
            branch = conv(f"{name}b", branch, channels, 3)
            shortcut = conv(f"{name}_shortcut", top, channels, 1, stride) if stride > 1 else top
            n[name] = L.Eltwise(branch, shortcut, operation=P.Eltwise.SUM)
            top = relu(f"{name}_relu", n[name])
    n.pool = L.Pooling(top, pool=P.Pooling.AVE, global_pooling=True)
    n.fc = L.InnerProduct(n.pool, num_output=10)
    n.loss = L.SoftmaxWithLoss(n.fc, n.label)
    return n.to_proto()


def fcn(size=21, classes=5):
    """Long et al. 2015 in small: scores at stride 4, upsampled, cropped to the input, loss per pixel."""
    from caffe.coord_map import crop

    n = caffe.NetSpec()
    inputs(n, 3, size, size, labels=(1, size, size))
    n.conv1 = L.Convolution(n.data, num_output=8, kernel_size=3, pad=10)
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.pool1 = L.Pooling(n.relu1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.conv2 = L.Convolution(n.pool1, num_output=12, kernel_size=3, pad=1)
    n.elu2 = L.ELU(n.conv2, in_place=True)
    n.pool2 = L.Pooling(n.elu2, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.score = L.Convolution(n.pool2, num_output=classes, kernel_size=1)
    n.upscore = L.Deconvolution(
        n.score, convolution_param={"num_output": classes, "kernel_size": 8, "stride": 4, "bias_term": False}
    )
    n.cropped = crop(n.upscore, n.data)
    n.loss = L.SoftmaxWithLoss(n.cropped, n.label, loss_param={"normalize": True})
    return n.to_proto()


NETS = {net.__name__: net for net in (lenet, cifar10_quick, cifar10_full, alexnet, caffenet, googlenet, resnet, fcn)}
CLASSES = {"alexnet": 20, "caffenet": 20, "googlenet": 20, "fcn": 5}  # ten elsewhere
# Seeds of weights and inputs with which no ReLU and no max pooling decides within rounding: where one does,
# gradients of two engines, or of one engine with its input changed in the seventh digit, differ by 1e-3.
# Found by golden/pycaffe/choose_seeds.py.
SEEDS = {
    "lenet": 0,
    "cifar10_quick": 0,
    "cifar10_full": 0,
    "alexnet": 0,
    "caffenet": 0,
    "googlenet": 0,
    "resnet": 1,
    "fcn": 0,
}


def training_pass(name, folder, seed=None, noise=0):
    """Every array of one forward and backward pass of net `name` (see pycaffe_cases.whole_net); uses `folder`."""
    proto = NETS[name]()
    proto.force_backward = True
    path = os.path.join(folder, "net.prototxt")
    with open(path, "w") as file:
        file.write(str(proto))
    return pycaffe_cases.whole_net(path, CLASSES.get(name, 10), SEEDS[name] if seed is None else seed, noise)
