"""Models for use elsewhere: ONNX, `torch.export`, Hugging Face repositories."""
