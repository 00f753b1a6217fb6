"""Layer types against the original Caffe itself: every case, the larger ones too."""

import pytest

from tests.parity import engine
from tests.parity.cases import CASES, cases_of
from tests.parity.compare import LAYER_TOLERANCE, differences
from tests.parity.golden import run_original

pytestmark = [pytest.mark.bvlc, pytest.mark.slow]


@pytest.fixture(scope="module")
def original(bvlc, tmp_path_factory):
    return run_original(tmp_path_factory.mktemp("bvlc") / "results.npz", "live")


@pytest.mark.parametrize("type", sorted(CASES))
def test_equals_the_original(type, original):
    wrong = []
    for case in cases_of("live", [type]):
        prefix = case.key + "/"
        wanted = {name[len(prefix) :]: array for name, array in original.items() if name.startswith(prefix)}
        wrong += [f"{prefix}{line}" for line in differences(engine.run(case), wanted, LAYER_TOLERANCE)]
    assert not wrong
