"""Report the installed libraries and their conflicts: ``python -m mmeffvit.cli.collect_env``.

Two distributions provide each OpenMMLab module, torch and torchvision have to match, and mmcv can
be installed without its operators. The report names the distribution that provides each module.
"""

import platform
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata

MODULES = (
    'torch',
    'torchvision',
    'triton',
    'numpy',
    'mmengine',
    'mmcv',
    'mmdet',
    'mmseg',
    'mmpretrain',
    'mmeffvit',
)


@dataclass(frozen=True)
class Installed:
    """One module, the distributions that provide it, and why it cannot be imported.

    Args:
        module (str): Import name.
        owners (Sequence[str]): Distributions that provide it, as ``name version``.
        error (str | None): Why it cannot be imported.
    """

    module: str
    owners: Sequence[str]
    error: str | None = None


def collect_modules(modules: Sequence[str] = MODULES) -> list[Installed]:
    """Look up and import each module.

    Args:
        modules (Sequence[str]): Import names.

    Returns:
        list[Installed]: One entry per module, in order.
    """
    owners = find_owners(modules, metadata.distributions())
    return [Installed(module, owners[module], _import_error(module)) for module in modules]


def find_owners(
    modules: Sequence[str], distributions: Iterable[metadata.Distribution]
) -> dict[str, list[str]]:
    """Find the distributions that provide each module.

    Args:
        modules (Sequence[str]): Import names.
        distributions (Iterable[Distribution]): Candidates; their lists of files are read, as the
            forks do not declare their modules.

    Returns:
        dict[str, list[str]]: ``name version`` of each owner. An editable installation lists no
        modules; it counts for the module of the same name.
    """
    owners: dict[str, list[str]] = {module: [] for module in modules}
    for distribution in distributions:
        name = distribution.metadata['Name']
        record = '\n' + (distribution.read_text('RECORD') or '')
        for module in modules:
            editable = name == module and '\n__editable__' in record
            if f'\n{module}/__init__.py,' in record or editable:
                owners[module].append(f'{name} {distribution.version}')
    return {module: sorted(names) for module, names in owners.items()}


def find_warnings(
    installed: Sequence[Installed], operators_error: str | None, wanted_torch: str | None
) -> list[str]:
    """Find conflicts between the installed libraries.

    Args:
        installed (Sequence[Installed]): From :func:`collect_modules`.
        operators_error (str | None): Why ``mmcv._ext`` cannot be imported.
        wanted_torch (str | None): The torch version that torchvision asks for.

    Returns:
        list[str]: One sentence per problem, with its remedy.
    """
    by_name = {entry.module: entry for entry in installed}
    warnings = []
    for entry in installed:
        if len(entry.owners) > 1:
            warnings.append(
                f'{entry.module} has two owners ({", ".join(entry.owners)}), which overwrite each '
                "other's files: uninstall both, then install one."
            )
        if entry.owners and entry.error:
            warnings.append(f'{entry.module} is installed but cannot be imported: {entry.error}.')
    if by_name['mmcv'].owners and operators_error:
        warnings.append(
            f'mmcv has no compiled operators, which mmdet needs ({operators_error}): rebuild it '
            'against this torch with --no-build-isolation --no-cache-dir.'
        )
    torch = ''.join(by_name['torch'].owners).rpartition(' ')[2]
    if torch and wanted_torch and _release(torch) != _release(wanted_torch):
        warnings.append(
            f'torchvision needs torch {wanted_torch}, but torch is {torch}: reinstall them as a '
            'pair.'
        )
    return warnings


def torch_wanted_by_torchvision() -> str | None:
    """Read the torch version that the installed torchvision is built for, if it says one."""
    try:
        requirements = metadata.requires('torchvision') or []
    except metadata.PackageNotFoundError:
        return None
    matches = (re.match(r'torch\s*\(?==\s*([\w.+]+)', line) for line in requirements)
    return next((match[1] for match in matches if match), None)


def collect_env() -> str:
    """Compose the whole report.

    Returns:
        str: Lines of ``name: value``, then the warnings, if any.
    """
    from ..utils.device import choose_device

    installed = collect_modules()
    lines = [f'Python: {platform.python_version()} ({sys.executable})']
    lines.append(f'System: {platform.platform()}')
    for entry in installed:
        lines.append(f'{entry.module}: {", ".join(entry.owners) or _without_owner(entry)}')
    lines.append('device: {} ({})'.format(*choose_device()))
    problems = find_warnings(installed, _import_error('mmcv._ext'), torch_wanted_by_torchvision())
    lines += [f'warning: {problem}' for problem in problems]
    return '\n'.join(lines)


def _import_error(module: str) -> str | None:
    try:
        import_module(module)
    # A broken torch pair raises RuntimeError, a version cap AssertionError; all are reported.
    except Exception as error:
        return f'{type(error).__name__}: {error}'.splitlines()[0]
    return None


def _without_owner(entry: Installed) -> str:
    return 'not installed' if entry.error else 'from the current folder'


def _release(version: str) -> str:
    return version.partition('+')[0]


if __name__ == '__main__':
    print(collect_env())
