"""Layers that read images, on whichever Caffe `import caffe` finds; Python 3.9 too.

make_data(folder) writes images, lists and databases (with Pillow and lmdb), run(folder) what every case reads of them.
tests/golden/images.npz holds what the original reads in the cases that are not LIVE. To make it again:

    python tests/parity/images.py make FOLDER
    tests/bvlc.sh python3 tests/parity/images.py run FOLDER tests/golden/images.npz
"""

import os
import shutil
import sys

import numpy as np

if __name__ == "__main__":  # the original's own package is found first: the project's folder comes last
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

TRAIN, TEST = 0, 1
PASSES = 3

IMAGE = (
    'type: "ImageData" top: "data" top: "label" image_data_param { source: "@/%s" root_folder: "@/" batch_size: %d %s }'
)
DATA = 'type: "Data" top: "data" top: "label" data_param { source: "@/%s" backend: LMDB batch_size: %d %s }'
WINDOW = (
    'type: "WindowData" top: "data" top: "label" window_data_param { source: "@/%s" batch_size: %d '
    "fg_fraction: 0.5 fg_threshold: 0.6 bg_threshold: 0.4 %s }"
)


def transform(text):
    return f" transform_param {{ {text} }}"


MEANS = "mean_value: 100 mean_value: 110 mean_value: 120"
CASES = {  # name: (the layer, phase)
    "image plain": (IMAGE % ("list.txt", 2, ""), TEST),
    "image in training": (IMAGE % ("list.txt", 2, ""), TRAIN),
    "image grey": (IMAGE % ("list.txt", 2, "is_color: false"), TEST),
    "image of a grey file": (IMAGE % ("grey.txt", 2, ""), TEST),
    "image grey of a grey file": (IMAGE % ("grey.txt", 2, "is_color: false"), TEST),
    "image with alpha": (IMAGE % ("alpha.txt", 1, ""), TEST),
    "image with alpha, grey": (IMAGE % ("alpha.txt", 1, "is_color: false"), TEST),
    "image with a palette": (IMAGE % ("palette.txt", 1, ""), TEST),
    "image of 16 bits": (IMAGE % ("deep.txt", 1, ""), TEST),
    "image of other sizes": (IMAGE % ("sizes.txt", 1, ""), TEST),
    "image larger": (IMAGE % ("sizes.txt", 3, "new_height: 23 new_width: 31"), TEST),
    "image smaller": (IMAGE % ("sizes.txt", 3, "new_height: 5 new_width: 7"), TEST),
    "image halved": (IMAGE % ("list.txt", 3, "new_height: 6 new_width: 5"), TEST),
    "image one row": (IMAGE % ("list.txt", 3, "new_height: 1 new_width: 40"), TEST),
    "image scaled": (IMAGE % ("list.txt", 2, "") + transform("scale: 0.00390625 mean_value: 100.5"), TEST),
    "image means": (IMAGE % ("list.txt", 2, "") + transform(MEANS), TEST),
    "image mean file": (IMAGE % ("list.txt", 2, "") + transform('mean_file: "@/mean" scale: 0.1'), TEST),
    "image cropped": (IMAGE % ("list.txt", 2, "") + transform("crop_size: 7 " + MEANS), TEST),
    "image mean file cropped": (IMAGE % ("list.txt", 2, "") + transform('crop_size: 8 mean_file: "@/mean"'), TEST),
    "data plain": (DATA % ("raw", 3, ""), TEST),
    "data without labels": ((DATA % ("raw", 4, "")).replace(' top: "label"', ""), TRAIN),
    "data floats": (DATA % ("floats", 2, "") + transform("scale: 2 mean_value: 0.5"), TEST),
    "data encoded": (DATA % ("encoded", 2, ""), TEST),
    "data encoded, grey": (DATA % ("encoded", 2, "") + transform("force_gray: true"), TEST),
    "data encoded grey files": (DATA % ("encoded_grey", 2, ""), TEST),
    "data encoded grey files, color": (DATA % ("encoded_grey", 2, "") + transform("force_color: true"), TEST),
    "data other sizes": (DATA % ("sizes", 1, ""), TEST),
    "data mean file cropped": (
        DATA % ("raw", 3, "") + transform('crop_size: 9 mean_file: "@/mean" scale: 0.5'),
        TEST,
    ),
    "window warped": (WINDOW % ("window.txt", 4, "") + transform("crop_size: 9"), TEST),
    "window as it is": (WINDOW % ("crop.txt", 2, "") + transform("crop_size: 6 " + MEANS), TRAIN),
    "window square": (WINDOW % ("window.txt", 2, 'crop_mode: "square" scale: 0.5') + transform("crop_size: 9"), TEST),
    "window context": (WINDOW % ("window.txt", 2, "context_pad: 2") + transform("crop_size: 10"), TEST),
    "window context, square": (
        WINDOW % ("edge.txt", 3, 'context_pad: 2 crop_mode: "square"') + transform("crop_size: 11 mean_value: 7"),
        TEST,
    ),
    "window mean file": (
        WINDOW % ("edge.txt", 2, "context_pad: 1 cache_images: true") + transform('crop_size: 8 mean_file: "@/mean"'),
        TEST,
    ),
    "jpeg": (IMAGE % ("jpeg.txt", 1, ""), TEST),
    "jpeg grey": (IMAGE % ("jpeg.txt", 1, "is_color: false"), TEST),
    "jpeg smaller": (IMAGE % ("jpeg.txt", 1, "new_height: 20 new_width: 20"), TEST),
}
# Files that differ with the version of what writes them
LIVE = {name for name in CASES if name.startswith(("jpeg", "image with a palette"))}
# What is drawn: every outcome comes in so many batches, whatever draws it
DRAWN = {
    "image mirrored in testing": (IMAGE % ("list.txt", 5, "") + transform("mirror: true"), TEST),
    "image cropped in training": (
        IMAGE % ("list.txt", 5, "") + transform('mirror: true crop_size: 11 mean_file: "@/mean"'),
        TRAIN,
    ),
    "data cropped in training": (DATA % ("raw", 7, "") + transform("crop_size: 11 scale: 0.5 " + MEANS), TRAIN),
    "data mirrored": (DATA % ("encoded", 3, "") + transform("mirror: true"), TRAIN),
    "window mirrored": (WINDOW % ("edge.txt", 2, "context_pad: 2") + transform("crop_size: 11 mirror: true"), TEST),
    "windows": (WINDOW % ("windows.txt", 4, "") + transform("crop_size: 5"), TRAIN),
    "image shuffled": (IMAGE % ("list.txt", 1, "shuffle: true"), TRAIN),
    "image skipping": (IMAGE % ("list.txt", 1, "rand_skip: 4"), TRAIN),
}
BATCHES = 120


def pixels(seed, height=12, width=15, channels=3):
    """uint8 (H, W, channels): smooth with some noise, so that a JPEG has something to keep."""
    state = np.random.RandomState(seed)
    y, x = np.mgrid[:height, :width]
    waves = [128 + 90 * np.sin(x / (2.0 + c) + seed) * np.cos(y / (3.0 + c)) for c in range(channels)]
    return np.clip(np.stack(waves, 2) + state.uniform(-30, 30, (height, width, channels)), 0, 255).astype(np.uint8)


def make_data(folder):
    """Fill a folder with images, lists, a mean and databases. Needs Pillow, lmdb and the project."""
    import io

    import lmdb
    from PIL import Image

    from caffe_proto import array_to_blobproto, caffe_pb2

    def path(name):
        return os.path.join(folder, name)

    def write_list(name, lines):
        with open(path(name), "w") as file:
            file.write("".join(line + "\n" for line in lines))

    def write_database(name, data):
        os.mkdir(path(name))
        with lmdb.open(path(name), map_size=2**24) as environment, environment.begin(write=True) as transaction:
            for i, datum in enumerate(data):
                transaction.put(b"%08d" % i, datum.SerializeToString())

    def png(array):
        stream = io.BytesIO()
        Image.fromarray(array).save(stream, "PNG")
        return stream.getvalue()

    for i in range(5):
        Image.fromarray(pixels(i)).save(path(f"image {i}.png"))
        Image.fromarray(pixels(20 + i, channels=1)[..., 0]).save(path(f"grey{i}.png"))
    for i, (height, width) in enumerate(((12, 15), (9, 20), (30, 11))):
        Image.fromarray(pixels(10 + i, height, width)).save(path(f"size{i}.png"))
    Image.fromarray(pixels(30, channels=4)).save(path("alpha.png"))
    Image.fromarray(pixels(31)).quantize(16).save(path("palette.png"))
    Image.fromarray(pixels(32, channels=1)[..., 0].astype(np.uint16) * 257 + 100).save(path("deep.png"))
    for i, more in enumerate(({}, {"quality": 95, "subsampling": 0}, {"quality": 40, "progressive": True})):
        Image.fromarray(pixels(40 + i, 33, 41)).save(path(f"j{i}.jpg"), **more)
    write_list("list.txt", [f"image {i}.png {7 * i - 3}" for i in range(5)])
    write_list("grey.txt", [f"grey{i}.png {i}" for i in range(5)])
    write_list("sizes.txt", [f"size{i}.png {i}" for i in range(3)])
    write_list("jpeg.txt", [f"j{i}.jpg {i}" for i in range(3)])
    for name in ("alpha", "palette", "deep"):
        write_list(name + ".txt", [name + ".png 1"])
    mean = np.random.RandomState(5).uniform(90, 150, (1, 3, 12, 15)).astype(np.float32)
    with open(path("mean"), "wb") as file:
        blob = array_to_blobproto(mean)
        del blob.shape.dim[:]
        blob.num, blob.channels, blob.height, blob.width = mean.shape
        file.write(blob.SerializeToString())
    windows = {  # one window of either kind, so that what is drawn is known
        "window.txt": ("size1.png", (5, 0.9, 3, 1, 17, 7), (2, 0.1, 0, 2, 8, 8)),
        "crop.txt": ("image 1.png", (5, 0.9, 3, 1, 8, 6), (2, 0.1, 9, 6, 14, 11)),
        "windows.txt": (
            "image 3.png",
            *((k, 0.7, k, k, k + 4, k + 4) for k in (1, 2, 3)),
            *((0, 0.1, 9 - k, k, 13 - k, k + 4) for k in range(4)),
        ),
        "edge.txt": ("image 2.png", (1, 0.6, 0, 4, 5, 11), (2, 0.39, 10, 0, 14, 5)),
    }
    for name, (image, *rows) in windows.items():
        lines = ["# 0", path(image).replace(" ", "_"), "3", "12", "15", str(len(rows))]
        if not os.path.exists(lines[1]):  # a list of windows has no names with spaces
            shutil.copy(path(image), lines[1])
        write_list(name, lines + [" ".join(map(str, row)) for row in rows])
    raw = [
        caffe_pb2.Datum(channels=3, height=12, width=15, label=i, data=pixels(50 + i).transpose(2, 0, 1).tobytes())
        for i in range(7)
    ]
    write_database("raw", raw)
    write_database(
        "sizes",
        [
            caffe_pb2.Datum(channels=2, height=3 + i, width=4, label=-i, data=pixels(i, 3 + i, 4, 2).tobytes())
            for i in range(3)
        ],
    )
    floats = np.random.RandomState(6).standard_normal((3, 2, 3, 4)).astype(np.float32)
    write_database(
        "floats",
        [caffe_pb2.Datum(channels=2, height=3, width=4, label=i, float_data=f.ravel()) for i, f in enumerate(floats)],
    )
    for name, start, channels in (("encoded", 60, 3), ("encoded_grey", 70, 1)):
        arrays = [pixels(start + i, channels=channels) for i in range(3)]
        arrays = arrays if channels == 3 else [array[..., 0] for array in arrays]
        write_database(
            name, [caffe_pb2.Datum(encoded=True, label=i, data=png(array)) for i, array in enumerate(arrays)]
        )


def make_net(folder, case):
    """A net of the one layer that a case has."""
    import caffe

    text, phase = case
    path = os.path.join(folder, "net.prototxt")
    with open(path, "w") as file:
        file.write('layer {{ name: "images" {} }}\n'.format(text.replace("@", folder)))
    return caffe.Net(path, phase)


def outcomes(folder):
    """{"case/label": array of the distinct images that came with this label} of all cases in DRAWN, in some order."""
    found = {}
    for name, case in DRAWN.items():
        net = make_net(folder, case)
        seen = {}
        for _ in range(BATCHES):
            net.forward()
            for image, label in zip(net.blobs["data"].data, net.blobs["label"].data):  # noqa: B905  # Python 3.9
                seen.setdefault(int(label), set()).add(image.tobytes())
        shape = net.blobs["data"].data.shape[1:]
        for label, images in seen.items():
            arrays = [np.frombuffer(image, np.float32).reshape(shape) for image in sorted(images)]
            found[f"{name}/{label}"] = np.stack(arrays)
    return found


def run(folder, names=()):
    """{"case/pass/top": float32 array} of the cases `names` (default: all) on the files in `folder`."""
    found = {}
    for name in names or CASES:
        net = make_net(folder, CASES[name])
        for turn in range(PASSES):
            net.forward()
            for top, blob in net.blobs.items():
                found[f"{name}/{turn}/{top}"] = np.array(blob.data)
    return found


def main(action, folder, out=""):
    """Make the data, or save what the cases (run: not LIVE, live: LIVE, draw: DRAWN) show."""
    if action == "make":
        os.makedirs(folder)
        make_data(folder)
    elif action == "draw":
        np.savez_compressed(out, **outcomes(folder))
    else:
        np.savez_compressed(out, **run(folder, [name for name in CASES if (name in LIVE) == (action == "live")]))


if __name__ == "__main__":
    main(*sys.argv[1:])
