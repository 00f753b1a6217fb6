"""Classic networks: every blob and gradient of a training pass equals the original's, same weights and input.

The ordinary run compares digests (norms and sampled elements, golden/pycaffe/nets.npz); tests marked bvlc compare whole
arrays live.
"""

import importlib.util
from pathlib import Path

import classic_nets
import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "golden/pycaffe"
GOLDEN = np.load(FOLDER / "nets.npz")
NET_TOLERANCE = 1e-4  # relative, over a whole net in float32

spec = importlib.util.spec_from_file_location("pycaffe_recipe", FOLDER / "recipe.py")
recipe = importlib.util.module_from_spec(spec)
spec.loader.exec_module(recipe)


def golden(name):
    """{array: digest} of net `name` under the original."""
    return {key.split(" ", 1)[1]: GOLDEN[key] for key in GOLDEN if key.startswith(f"{name} ")}


@pytest.mark.parametrize("name", classic_nets.NETS)
def test_pass_has_the_originals_digest(name, tmp_path):
    made, wanted = classic_nets.training_pass(name, tmp_path), golden(name)
    assert set(made) == set(wanted) and wanted
    for key, array in made.items():
        digest = recipe.digest(key, array)
        assert digest.shape == wanted[key].shape, key
        # a sample may happen to hold small elements only: errors are relative to the array's typical size too
        typical = wanted[key][0] * np.sqrt((len(digest) - 1) / array.size)
        scale = max(np.linalg.norm(wanted[key][1:]), typical)
        assert abs(digest[0] - wanted[key][0]) <= NET_TOLERANCE * wanted[key][0], key
        assert np.linalg.norm(digest[1:] - wanted[key][1:]) <= NET_TOLERANCE * scale, key


@pytest.mark.parametrize("name", classic_nets.NETS)
def test_nothing_compared_is_trivial(name):
    """A comparison of zeros would pass whatever the engine did; BatchNorm's statistics alone have no gradient."""
    norms = {key: digest[0] for key, digest in golden(name).items()}
    assert len(norms) > 10 and all(np.isfinite(list(norms.values())))
    assert [key for key, norm in norms.items() if norm == 0 and "_bn " not in key] == []


@pytest.mark.bvlc
@pytest.mark.parametrize("name", classic_nets.NETS)
def test_pass_is_the_originals_live(name, bvlc, tmp_path):
    bvlc("python3", FOLDER / "live.py", tmp_path, name)
    wanted = np.load(tmp_path / f"{name}.npz")
    made = classic_nets.training_pass(name, tmp_path)
    assert set(made) == set(wanted)
    for key, array in made.items():
        assert array.shape == wanted[key].shape, key
        error = np.linalg.norm(array.astype(float) - wanted[key].astype(float))
        assert error <= NET_TOLERANCE * np.linalg.norm(wanted[key].astype(float)), key
