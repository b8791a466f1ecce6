"""Matchers and stereo networks."""

BATCHES = {
    r'(quadtree_matcher|loftr)_.+_scannet': (1, 8, 7.5e-4),
    r'(quadtree_matcher|loftr)_.+_megadepth': (1, 8, 1e-3),
    r'(quadtree_)?sttr_flyingthings': (1, 1, 1e-4),
}
DROP_PATH = {r'.+_(scannet|megadepth|flyingthings)': 0.0}
