"""BVLC Caffe's tools beside `caffe` itself, with their names and flags: `caffe-tools TOOL [FLAGS] ARGUMENTS`.

`command` has the list; docs/engine.md section 10 says what each does, and where it differs.
"""
