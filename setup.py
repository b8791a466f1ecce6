"""Packaging of mmeffvit; the requirements are in requirements/, one file per extra."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
TASKS = ('det', 'seg', 'cls', 'denoise', 'match')
EXTRAS = (*TASKS, 'openmmlab', 'deploy', 'tests', 'docs')


def read_requirements(name: str) -> list[str]:
    """List the requirements of ``requirements/<name>.txt``, following its ``-r`` lines."""
    requirements = []
    for line in (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines():
        if line.startswith('-r '):
            requirements += read_requirements(line[3:].strip().removesuffix('.txt'))
        elif line and not line.startswith('#'):
            requirements.append(line)
    return requirements


def read_version() -> str:
    """Read the version without importing the package, which needs mmengine."""
    namespace: dict[str, str] = {}
    exec((ROOT / 'mmeffvit' / 'version.py').read_text(), namespace)
    return namespace['__version__']


extras = {name: read_requirements(name) for name in EXTRAS}
extras['all'] = sorted({line for name in TASKS for line in extras[name]})

setup(
    name='mmeffvit',
    version=read_version(),
    description='Efficient-attention backbones for mmdet, mmseg and mmpretrain in one plugin',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    keywords=['computer vision', 'vision transformer', 'efficient attention', 'OpenMMLab'],
    classifiers=[
        'Development Status :: 4 - Beta',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    packages=find_packages(include=['mmeffvit', 'mmeffvit.*']),
    include_package_data=True,
    python_requires='>=3.10',
    install_requires=read_requirements('runtime'),
    extras_require=extras,
    zip_safe=False,
)
