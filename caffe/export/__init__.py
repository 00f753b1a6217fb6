"""Nets as torch modules, programs of torch.export and ONNX models, each proved equal to the engine as it is written.

    caffe export -model deploy.prototxt -weights X.caffemodel -output X.onnx

`source` writes a net as the text of a torch module, type by type (`layer_types`; `pieces` has what one expression
cannot say); `formats` makes files of it; `proof` compares what they compute with the engine. docs/engine.md section 9.
"""

from caffe.export.formats import FORMATS, export_net

__all__ = ["FORMATS", "export_net"]
