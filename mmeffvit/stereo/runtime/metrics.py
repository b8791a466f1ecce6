from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmengine.evaluator import BaseMetric

from ...registry import METRICS


@METRICS.register_module()
class StereoError(BaseMetric):
    """End-point error, share of large errors, and agreement of occlusion.

    Errors are of pixels with a positive true disparity that are visible on the right: figures of
    papers that count occluded pixels too are not comparable.

    Args:
        thresholds (Sequence[float]): Pixels.
        collect_device (str): See mmengine's ``BaseMetric``.
        prefix (str, optional): See mmengine's ``BaseMetric``.

    Source: section 4 of the STTR paper; ``occlusion_iou`` is its figure, in which both classes are
    pooled, ``occluded_iou`` that of the occluded pixels.
    """

    default_prefix = 'stereo'

    def __init__(
        self,
        thresholds: Sequence[float] = (1, 3),
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        self.thresholds = tuple(thresholds)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Compare the predictions of one batch with their ground truth."""
        self.results.extend(self.compare(sample) for sample in data_samples)

    def compare(self, sample: dict) -> dict[str, float]:
        """Sums and counts of one pair."""
        true, occluded, found, occlusion = (
            sample[key].cpu().numpy()
            for key in ('gt_disparity', 'gt_occlusion', 'disparity', 'occlusion')
        )
        valid = (true > 0) & ~occluded
        error = np.abs(found - true)[valid]
        hidden = occlusion > 0.5
        known = valid | occluded
        result = dict(
            pixels=float(valid.sum()),
            epe=float(error.mean()) if error.size else float('nan'),
            occluded_both=float((hidden & occluded).sum()),
            occluded_any=float(((hidden & known) | occluded).sum()),
            visible_both=float((~hidden & valid).sum()),
            visible_any=float(((~hidden & known) | valid).sum()),
        )
        for threshold in self.thresholds:
            result[f'over {threshold:g}'] = float((error > threshold).sum())
        return result

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """End-point error averaged over pairs, all else pooled over pixels."""
        total = {
            name: float(np.sum([r[name] for r in results])) for name in results[0] if name != 'epe'
        }
        epes = [r['epe'] for r in results if not np.isnan(r['epe'])]
        found = dict(epe=float(np.mean(epes)) if epes else float('nan'))
        for threshold in self.thresholds:
            share = total[f'over {threshold:g}'] / max(1.0, total['pixels'])
            found[f'{threshold:g}px'] = 100 * share
        both = total['occluded_both'] + total['visible_both']
        found['occlusion_iou'] = both / max(1.0, total['occluded_any'] + total['visible_any'])
        found['occluded_iou'] = total['occluded_both'] / max(1.0, total['occluded_any'])
        return found
