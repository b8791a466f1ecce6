"""Models outside of Python."""

from .onnx import check_onnx, export_onnx, exportable

__all__ = ['check_onnx', 'export_onnx', 'exportable']
