"""What an installed copy holds and can do, away from the checkout."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from mmengine.fileio import load

ROOT = Path(__file__).parents[1]
PUBLISHED = ('mmeffvit', 'configs', 'tools', 'requirements')
#: Folders of the checkout that must stay out of the package.
UPKEEP = ('demo', 'scripts', 'benchmarks', 'tests')
PACKAGED = ('*.py', '*.md', 'LICENSE', 'MANIFEST.in', '*.yml', '*.toml')

INHERIT = """
from pathlib import Path
import mmeffvit
from mmengine.config import Config

assert Path(mmeffvit.__file__).is_relative_to({site!r}), mmeffvit.__file__
Path('mine.py').write_text("_base_ = 'mmeffvit::retinanet_quadtree_b0_shapes.py'")
cfg = Config.fromfile('mine.py')
print(cfg.model.backbone.type)
"""


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A copy of the checkout."""
    folder = tmp_path_factory.mktemp('packaging') / 'source'
    ignore = shutil.ignore_patterns('__pycache__')
    for name in (*PUBLISHED, *UPKEEP):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignore)
    for pattern in PACKAGED:
        for path in ROOT.glob(pattern):
            shutil.copy(path, folder)
    return folder


@pytest.fixture(scope='module')
def site(source):
    """The content of the wheel, as pip would install it."""
    command = [sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation']
    subprocess.run([*command, '-w', source.parent, source], check=True, capture_output=True)
    (wheel,) = source.parent.glob('*.whl')
    site = source.parent / 'site'
    zipfile.ZipFile(wheel).extractall(site)
    return site


def relative_files(folder, *patterns):
    found = {path for pattern in patterns for path in folder.rglob(pattern) if path.is_file()}
    return {path.relative_to(folder) for path in found}


def test_package_holds_every_module_config_and_tool(site):
    files = ('*.py', 'py.typed', 'published.json')
    assert relative_files(ROOT / 'mmeffvit', *files) <= relative_files(site / 'mmeffvit', *files)
    mim = site / 'mmeffvit' / '.mim'
    configs = relative_files(ROOT / 'configs', '*.py', '*.yml')
    assert relative_files(mim / 'configs', '*') == configs
    assert relative_files(mim / 'tools', '*') == relative_files(ROOT / 'tools', '*.py', '*.sh')


def test_package_holds_nothing_else(site):
    assert {path.name.partition('-')[0] for path in site.iterdir()} == {'mmeffvit'}
    assert not list(site.rglob('*.pyc'))


def test_package_is_for_users_alone(site):
    """No data generator, demo, set-up or benchmark is installed."""
    names = {path.name for path in site.rglob('*.py')}
    assert not names & {'make_shapes.py', 'scene.py', 'setup_env.py', 'update_model_zoo.py'}


def test_source_distribution_builds_the_same_package(source, site):
    build = 'import setuptools.build_meta as b; print(b.build_sdist("dist"))'
    done = subprocess.run(
        [sys.executable, '-c', build], cwd=source, check=True, capture_output=True, text=True
    )
    with tarfile.open(source / 'dist' / done.stdout.split()[-1]) as archive:
        names = {name.partition('/')[2] for name in archive.getnames()}
    modules = {str(path) for path in relative_files(site / 'mmeffvit', '*.py')}
    assert {f'mmeffvit/{module}' for module in modules} <= names
    assert {'LICENSE', 'setup.py', 'requirements/runtime.txt'} <= names
    assert not {name.partition('/')[0] for name in names} & set(UPKEEP)


def test_configs_are_inherited_from_the_installed_package(site, tmp_path):
    result = subprocess.run(
        [sys.executable, '-c', INHERIT.format(site=str(site))],
        cwd=tmp_path,
        env=os.environ | {'PYTHONPATH': str(site)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[-1] == 'mmeffvit.QuadTreeTransformer'


def test_model_index_lists_every_metafile():
    imported = load(ROOT / 'model-index.yml')['Import']
    assert sorted(imported) == sorted(
        str(path.relative_to(ROOT)) for path in ROOT.glob('configs/metafiles/*.yml')
    )


def test_metafiles_name_configs_that_exist():
    for name in load(ROOT / 'model-index.yml')['Import']:
        metafile = load(ROOT / name)
        collections = {collection['Name'] for collection in metafile['Collections']}
        for model in metafile['Models']:
            assert model['In Collection'] in collections
            assert (ROOT / model['Config']).is_file()


def test_extras_stand_on_the_runtime_and_name_one_distribution_each(site):
    (metadata,) = site.glob('*.dist-info/METADATA')
    lines = [line for line in metadata.read_text().splitlines() if line.startswith('Requires-Dist')]
    runtime = {line.split()[1] for line in lines if 'extra ==' not in line}
    assert runtime == {'filelock', 'numpy', 'safetensors', 'torch>=2.5'}
    everything = [line for line in lines if line.endswith('extra == "all"')]
    originals = [line for line in lines if line.endswith('extra == "openmmlab"')]
    assert sum('onedl-mm' in line for line in everything) == 5
    assert not any('onedl-mm' in line for line in originals)
