# MegaDepth in LoFTR's layout: 100 pairs of every sub-scene in an epoch, the longer side 832.
dataset_type = 'MegaDepthPairs'
data_root = 'data/megadepth/'

train_pipeline = [
    dict(type='LoadImagePair'),
    dict(type='ResizePair', long_side=832, divisor=8),
    dict(type='PackPair'),
]
test_pipeline = train_pipeline
train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='PerSubsetSampler', per_subset=100),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='index/trainvaltest_list/train_list.txt',
        data_prefix=dict(index='index/scene_info_0.1_0.7'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='index/megadepth_test_1500.txt',
        data_prefix=dict(index='index/megadepth_test_1500'),
        depth=False,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='PoseAUC', epipolar_threshold=1e-4)
test_evaluator = val_evaluator
auto_scale_lr = dict(enable=False, base_batch_size=8)
