_base_ = 'shapes_loaders.py'

# Drawn while loading; the same seed gives the same scenes.
dataset_type = 'LayeredStereo'
size = (96, 160)
pipeline = [dict(type='PackStereo')]

train_dataloader = dict(
    batch_size=2,
    num_workers=1,
    dataset=dict(type=dataset_type, num_pairs=100_000, size=size, seed=0, pipeline=pipeline),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        type=dataset_type, num_pairs=40, size=size, seed=2**31, test_mode=True, pipeline=pipeline
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='StereoError', thresholds=(1, 3))
test_evaluator = val_evaluator

auto_scale_lr = dict(enable=False, base_batch_size=2)
