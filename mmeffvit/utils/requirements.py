"""Checks for optional dependencies, with installation hints."""

from importlib.util import find_spec

#: Module -> the extra of this package that installs it.
EXTRAS = {
    'mmengine': 'all',
    'mmcv': 'all',
    'mmdet': 'det',
    'mmseg': 'seg',
    'mmpretrain': 'cls',
    'skimage': 'denoise',
    'h5py': 'match',
    'poselib': 'match',
    'onnx': 'deploy',
    'onnxruntime': 'deploy',
    'onnxscript': 'deploy',
}
#: Distributions whose name is not the module's, as mmengine's messages give them.
_MODULES = {'mmsegmentation': 'mmseg'}


class MissingLibraryError(ImportError):
    """An optional dependency is not installed; the message has the command that installs it."""


def require(*modules: str) -> None:
    """Check that libraries are installed, without importing them.

    Args:
        modules (str): Module names, such as ``'mmdet'``.

    Raises:
        MissingLibraryError: Naming the first one missing and how to get it.
    """
    for module in modules:
        if find_spec(module) is None:
            raise MissingLibraryError(_advice(module))


def explain_import_error(error: ImportError) -> str | None:
    """Turn the error of a missing optional dependency into an installation hint.

    Args:
        error (ImportError): From an import, from :func:`require`, or from mmengine when a config
            inherits from a library that is not there.

    Returns:
        str | None: The sentence, or None if the error is about something else.
    """
    if isinstance(error, MissingLibraryError):
        return str(error)
    if error.name == 'mmcv._ext':
        return (
            'mmcv has no compiled operators (mmcv-lite, or a build for another torch): rebuild it '
            'with pip install --no-cache-dir --force-reinstall --no-deps --no-build-isolation '
            'onedl-mmcv, or remove .venv and run make again.'
        )
    name = error.name or str(error).partition(' is not installed')[0]
    name = _MODULES.get(name, name)
    return _advice(name) if name in EXTRAS else None


def _advice(module: str) -> str:
    extra = EXTRAS.get(module)
    package = f"'mmeffvit[{extra}]'" if extra else module
    return f'{module} is not installed: pip install {package}.'
