import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mmeffvit import get_model
from mmeffvit.checkpoints import CheckpointError, load_weights, partial_allowed
from mmeffvit.checkpoints.load import fill, insist


class Detector(nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.head = nn.Linear(4, classes)


class Backbone(nn.Module):
    output_layers = ('norm',)

    def __init__(self, out_indices: tuple[int, ...] = (0, 1)) -> None:
        super().__init__()
        self.stages = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))
        for index in out_indices:
            self.add_module(f'norm{index}', nn.BatchNorm1d(4))


def same(model, state):
    found = model.state_dict()
    return all(torch.equal(found[key], value) for key, value in state.items())


def test_exact(tmp_path):
    source, model = Detector(), Detector()
    torch.save(source.state_dict(), tmp_path / 'w.pth')
    loaded = load_weights(model, tmp_path / 'w.pth')
    assert loaded.is_exact and loaded.filled == 20
    assert same(model, source.state_dict())
    assert str(loaded) == f'20 of 20 tensors of {tmp_path}/w.pth fill Detector, which has 20'


@pytest.mark.parametrize('prefix', ['module.', 'model.', '_orig_mod.', 'backbone.'])
def test_a_prefix_that_the_model_lacks_is_taken_off(tmp_path, prefix):
    source = Backbone().state_dict()
    state = {f'{prefix}{key}': value for key, value in source.items()}
    save_file({**state, 'neck.weight': torch.ones(1)}, tmp_path / 'w.safetensors')
    model = Backbone()
    load_weights(model, tmp_path / 'w.safetensors')
    assert same(model, source)


def test_a_prefix_that_the_model_has_stays(tmp_path):
    source = nn.ModuleDict(dict(model=nn.Linear(2, 2)))
    torch.save(source.state_dict(), tmp_path / 'w.pth')
    model = nn.ModuleDict(dict(model=nn.Linear(2, 2)))
    assert load_weights(model, tmp_path / 'w.pth').is_exact
    assert same(model, source.state_dict())


def test_layers_of_an_output_may_be_absent_or_in_excess(tmp_path):
    torch.save(Backbone((0,)).state_dict(), tmp_path / 'w.pth')
    load_weights(Backbone((1,)), tmp_path / 'w.pth')
    source = Detector()
    torch.save({k: v for k, v in source.state_dict().items() if 'norm' not in k}, tmp_path / 'd')
    load_weights(Detector(), tmp_path / 'd')


def test_what_does_not_fit_is_listed_and_refused(tmp_path):
    state = Detector(classes=5).state_dict()
    del state['backbone.stages.0.weight']
    state['extra'] = torch.ones(1)
    torch.save(state, tmp_path / 'w.pth')
    model = Detector()
    with pytest.raises(CheckpointError) as error:
        load_weights(model, tmp_path / 'w.pth')
    for text in (
        'w.pth fill Detector',
        '2 of another shape, left as initialised: head.weight (5, 4) instead of (3, 4), head.bias',
        '1 not in the file, left as initialised: backbone.stages.0.weight',
        '1 not in the model, unused: extra',
        '--allow-partial',
    ):
        assert text in str(error.value)
    loaded = load_weights(model, tmp_path / 'w.pth', allow_partial=True)
    assert loaded.filled == 17
    assert torch.equal(model.backbone.stages[1].weight, state['backbone.stages.1.weight'])


def test_nothing_that_fits_is_refused_whatever_is_allowed(tmp_path):
    torch.save({'other': torch.ones(1)}, tmp_path / 'w.pth')
    with pytest.raises(CheckpointError, match=r'0 of 1 .*convert_checkpoint') as error:
        load_weights(Backbone(), tmp_path / 'w.pth', allow_partial=True)
    assert '--allow-partial' not in str(error.value)


def public_vit() -> dict[str, torch.Tensor]:
    """timm's names of a small ViT; all but the position table's are ours too."""
    state = get_model('vit_t').state_dict()
    state = {key.replace('position.weight', 'pos_embed'): value for key, value in state.items()}
    return {**state, 'head.weight': torch.zeros(5, 192), 'head.bias': torch.zeros(5)}


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_public_names_are_recognised_even_where_most_are_ours(tmp_path, prefix):
    state = {f'{prefix}{key}': value for key, value in public_vit().items()}
    torch.save(state, tmp_path / 'w.pth')
    with pytest.raises(CheckpointError, match=r'convert_checkpoint\.py --family .*vit'):
        load_weights(get_model('vit_t'), tmp_path / 'w.pth')
    loaded = fill(get_model('vit_t'), state, 'w.pth')
    assert 'vit' in loaded.families and loaded.filled > 100
    with pytest.raises(CheckpointError, match='--family'):
        insist(loaded)
    with partial_allowed():
        insist(loaded)


def test_weights_of_our_own_are_not_taken_for_public_ones():
    state = {f'backbone.{key}': value for key, value in get_model('vit_t').state_dict().items()}
    state |= {'head.fc.weight': torch.zeros(5, 192), 'neck.weight': torch.zeros(1)}
    model = nn.ModuleDict(dict(backbone=get_model('vit_t'), other_head=nn.Linear(2, 2)))
    loaded = fill(model, state, 'w.pth')
    assert loaded.families == []
    assert loaded.unexpected == ['head.fc.weight', 'neck.weight']
    assert loaded.missing == ['other_head.weight', 'other_head.bias']
    insist(loaded)


def test_load_hooks_rename_before_the_account_is_taken():
    class Renamed(nn.Linear):
        def _load_from_state_dict(self, state, prefix, *args):
            if prefix + 'kernel' in state:
                state[prefix + 'weight'] = state.pop(prefix + 'kernel')
            super()._load_from_state_dict(state, prefix, *args)

    model = nn.Sequential(Renamed(2, 2))
    state = {'0.kernel': torch.ones(2, 2), '0.bias': torch.ones(2)}
    assert fill(model, state, 'x').is_exact
    assert model[0].weight.eq(1).all()


def test_wrappers_of_models_are_looked_through():
    from mmengine.model import BaseModel, BaseTTAModel

    class Model(BaseModel):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, inputs, data_samples=None, mode='tensor'):
            return inputs

    class TTA(BaseTTAModel):
        def merge_preds(self, data_samples_list):
            return data_samples_list

    model = TTA(Model())
    assert fill(model, Model().state_dict(), 'x').is_exact
