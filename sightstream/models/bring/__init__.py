"""Models that were made elsewhere become versions: one ONNX file from pixels to probabilities."""
