_base_ = 'shapes_loaders.py'

# Drawn while loading; the same seed gives the same pairs.
dataset_type = 'HomographyPairs'
size = (128, 160)
pipeline = [dict(type='PackPair')]

train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(type=dataset_type, num_pairs=100_000, size=size, seed=0, pipeline=pipeline),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        type=dataset_type, num_pairs=100, size=size, seed=2**31, test_mode=True, pipeline=pipeline
    ),
)
test_dataloader = val_dataloader

val_evaluator = [
    dict(type='MatchPrecision', thresholds=(1, 3)),
    dict(type='HomographyAUC', thresholds=(3, 5, 10)),
]
test_evaluator = val_evaluator

auto_scale_lr = dict(enable=False, base_batch_size=4)
