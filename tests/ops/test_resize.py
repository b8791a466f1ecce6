import pytest
import torch
import torch.nn.functional as F

from mmeffvit.ops import map_to_tokens, resample_linear, resampling_matrix, tokens_to_map

SIZES = [((14, 14), (5, 5)), ((24, 24), (10, 10)), ((50, 84), (7, 12)), ((5, 6), (10, 10))]


@pytest.mark.parametrize('antialias', [True, False])
@pytest.mark.parametrize('source, target', SIZES)
def test_equals_bilinear_interpolation(source, target, antialias):
    x = torch.randn(2, 3, *source, dtype=torch.float64)
    expected = F.interpolate(x, size=target, mode='bilinear', antialias=antialias)
    actual = tokens_to_map(resample_linear(map_to_tokens(x), source, target, antialias), target)
    assert (actual - expected).abs().max() < 1e-12


def test_equals_trilinear_interpolation():
    x = torch.randn(2, 3, 4, 6, 5, dtype=torch.float64)
    expected = F.interpolate(x, size=(2, 9, 7), mode='trilinear')
    actual = tokens_to_map(
        resample_linear(map_to_tokens(x), (4, 6, 5), (2, 9, 7), False), (2, 9, 7)
    )
    assert (actual - expected).abs().max() < 1e-12


def test_rows_sum_to_one_and_every_cell_counts():
    for source, target in ((14, 3), (24, 5), (7, 7), (3, 8)):
        matrix = resampling_matrix(source, target)
        torch.testing.assert_close(matrix.sum(1), torch.ones(target, dtype=torch.float64))
        assert (matrix.sum(0) > 0).all()


def test_same_grid_is_the_input():
    x = torch.randn(1, 12, 2)
    assert resample_linear(x, (3, 4), (3, 4)).data_ptr() == x.data_ptr()


def test_is_linear():
    features, position = torch.randn(2, 196, 8), torch.randn(1, 196, 8)
    together = resample_linear(features + position, (14, 14), (5, 5))
    apart = [resample_linear(x, (14, 14), (5, 5)) for x in (features, position)]
    torch.testing.assert_close(together, apart[0] + apart[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    out = resample_linear(torch.ones(1, 16, 2, dtype=dtype), (4, 4), (2, 3))
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), torch.ones(1, 6, 2), rtol=0, atol=1e-2)


def test_bad_grids():
    with pytest.raises(ValueError, match='12 tokens'):
        resample_linear(torch.zeros(1, 12, 2), (3, 3), (2, 2))
    with pytest.raises(ValueError, match='at least 1'):
        resampling_matrix(4, 0)
