"""The trained network as one ONNX file that needs nothing else, and what serves it.

    manifest.py    what the file says of itself: labels, thresholds, implications, preprocessing, provenance
    onnx_file.py   Tagger -> file; parity with torch (the only module here that imports torch)
    variants.py    the other files that export.variants asks for: int8.py, fp16.py, openvino_ir.py; graphs.py helps them
    detector.py    a detector beside the file, and how its scores join; detector_files.py puts it there
    runtime.py     file + images -> labels, with onnxruntime, numpy and Pillow
    service.py     the same over HTTP

Axes letters: B images of a batch, C labels, H W pixels.
"""
