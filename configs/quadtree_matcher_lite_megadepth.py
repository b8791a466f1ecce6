_base_ = 'quadtree_matcher_outdoor_megadepth.py'

# All channels halved: 3.2 million parameters.
model = dict(backbone=dict(initial_dims=64, block_dims=(64, 98, 128)))
