from helpers.recipes import exempt, flat, nothing

BATCHES = {
    r'maskrcnn_quadtree_.+_3x_coco': (2, 16, 1e-4),
    r'maskrcnn_quadtree_.+_coco': (2, 16, 2e-4),
}
DROP_PATH = {r'quadtree_b[34]_imagenet': 0.3}
SAMPLER = {r'quadtree_.+': 'RepeatAugSampler'}


def by_name(name: str, *_) -> bool:
    """The GroupNorms of the authors' value branches are called by number."""
    return 'norm' in name and 'value_branches' not in name


DECAY = {
    'quadtree_b1_imagenet': (0.05, exempt(flat)),
    'retinanet_quadtree_b1_coco': (1e-4, nothing),
    'maskrcnn_quadtree_b1_coco': (1e-4, nothing),
    'maskrcnn_quadtree_b1_3x_coco': (0.05, by_name),
    'semanticfpn_quadtree_b1_ade20k': (0.01, by_name),
}
IMAGENET_RATES = {'quadtree_b1_imagenet': (5, 1e-6, 1e-3, 1e-5)}
