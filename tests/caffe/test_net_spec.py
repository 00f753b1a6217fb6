"""NetSpec: the same prototxt text as the original writes (golden/pycaffe, with its recipe), and its errors."""

import json
from pathlib import Path

import classic_nets
import pycaffe_cases
import pytest
from google.protobuf import text_format

import caffe
from caffe import layers as L
from caffe import params as P
from caffe.net_spec import assign_proto, param_name_dict
from caffe_proto import caffe_pb2

GOLDEN = json.loads((Path(__file__).resolve().parents[1] / "golden/pycaffe/texts.json").read_text())
SPECS = {**pycaffe_cases.NET_SPECS, **classic_nets.NETS}


@pytest.mark.parametrize("name", SPECS)
def test_proto_is_the_originals(name):
    """Compared as text once the golden text is printed by the same protobuf (older ones print 0.1 as float64)."""
    proto = SPECS[name]()
    if name in GOLDEN["net_spec"]:  # the longest is kept as a hash only
        assert str(proto) == str(text_format.Parse(GOLDEN["net_spec"][name], caffe_pb2.NetParameter()))
    assert pycaffe_cases.proto_sha256(proto) == GOLDEN["net_spec_sha256"][name]


@pytest.mark.parametrize("name", SPECS)
def test_text_reads_back(name):
    proto = SPECS[name]()
    assert text_format.Parse(str(proto), caffe_pb2.NetParameter()) == proto


def test_every_setting_message_of_a_layer_is_reachable_by_its_types_name():
    names = param_name_dict()
    assert names["Convolution"] == "convolution" and names["HDF5Data"] == "hdf5_data" and names["LRN"] == "lrn"
    for type_name, stem in names.items():
        message = getattr(caffe_pb2, f"{type_name}Parameter")
        assert isinstance(getattr(caffe_pb2.LayerParameter(), f"{stem}_param"), message)


def test_bottoms_must_be_tops():
    with pytest.raises(TypeError, match=r"ReLU input 1 is not a Top \(type is <class 'str'>\)"):
        L.ReLU(L.Input(), "data")
    with pytest.raises(TypeError, match="Silence input 0 is not a Top"):
        L.Silence(L.Silence(L.Input(), ntop=0))


def test_a_misspelt_setting_names_the_known_ones():
    with pytest.raises(AttributeError, match="Convolution: .* settings num_output, bias_term, .*, got 'num_outputs'"):
        L.Convolution(L.Input(), num_outputs=3).to_proto()
    with pytest.raises(AttributeError, match="axes"):
        L.Softmax(L.Input(), softmax_param={"axes": 3}).to_proto()


def test_misspelt_names_are_errors():
    n = caffe.NetSpec()
    n.data = L.Input()
    with pytest.raises(AttributeError, match="NetSpec: expected one of its tops, data, got 'dta'"):
        _ = n.dta
    with pytest.raises(AttributeError, match="expected the name of a message, such as Pooling or Eltwise, got Poling"):
        _ = P.Poling
    with pytest.raises(AttributeError):
        _ = P.Pooling.MEAN
    del n["data"]
    assert str(n.to_proto()) == ""


def test_number_of_tops_decides_what_a_call_returns():
    assert L.Input(ntop=1).n == 0
    assert [top.n for top in L.Input(ntop=3)] == [0, 1, 2]
    assert L.Silence(L.Input(), ntop=0).type_name == "Silence"


def test_any_sequence_fills_a_repeated_field():
    layer = caffe_pb2.LayerParameter()
    for value in ([1, 2], (1, 2), range(1, 3)):
        layer.ClearField("convolution_param")
        assign_proto(layer, "convolution_param", {"kernel_size": value})
        assert list(layer.convolution_param.kernel_size) == [1, 2]
    assign_proto(layer, "top", "name")  # a string is one value, not its characters
    assert list(layer.top) == ["name"]


def test_caffe_layers_is_the_makers_and_the_layer_types_package():
    import caffe.layers

    assert caffe.layers is L
    assert L.Convolution(L.Input(), num_output=1).fn.type_name == "Convolution"
    from caffe.layers import data  # noqa: F401
