"""The tables follow the metafiles, and the metafiles the models."""

from __future__ import annotations

import runpy

import pytest
import yaml
from mmengine import Config

from helpers.tool_runs import ROOT
from mmeffvit.analysis import count_config
from mmeffvit.checkpoints.index import published_for

ENTRIES = [
    entry
    for path in sorted((ROOT / 'configs/metafiles').glob('*.yml'))
    for entry in yaml.safe_load(path.read_text())['Models']
]


@pytest.fixture(scope='module')
def tool() -> dict:
    return runpy.run_path(str(ROOT / 'scripts/update_model_zoo.py'))


def test_tables_are_not_stale(tool):
    metafiles = {path: yaml.safe_load(path.read_text()) for path in tool['imported']()}
    assert not tool['check_listing'](metafiles)
    assert (ROOT / 'model-index.yml').read_text() == tool['index'](metafiles)
    assert (ROOT / 'docs/model_zoo.md').read_text() == tool['zoo_page'](metafiles)
    assert (ROOT / 'README.md').read_text() == tool['readme'](metafiles)


def test_an_unlisted_config_is_named(tool):
    metafiles = {path: yaml.safe_load(path.read_text()) for path in tool['imported']()}
    removed = next(iter(metafiles.values()))['Models'].pop()
    assert tool['check_listing'](metafiles) == [f'{removed["Config"]} is in no metafile.']


@pytest.mark.parametrize('entry', ENTRIES, ids=lambda entry: entry['Name'])
def test_figures_name_their_source_and_weights_are_real(entry):
    """No weights of ours are released; those that are listed are the authors', of the index."""
    assert all(result['Source'] and result['Metrics'] for result in entry.get('Results', []))
    whole = published_for(entry['Name'])
    assert entry.get('Weights') == (whole and whole.address)
    assert {'Parameters', 'FLOPs', 'Input size', 'Framework'} <= entry['Metadata'].keys()


@pytest.mark.slow
@pytest.mark.parametrize('entry', ENTRIES, ids=lambda entry: entry['Name'])
def test_recorded_sizes_are_the_models(entry):
    config, recorded = Config.fromfile(ROOT / entry['Config']), entry['Metadata']
    found = count_config(config, recorded['Input size'])
    assert (found.params, found.macs) == (recorded['Parameters'], recorded['FLOPs'])
