# ScanNet in LoFTR's layout: 200 pairs of every scene in an epoch, tested on 1500 pairs at 640x480.
dataset_type = 'ScanNetPairs'
data_root = 'data/scannet/'

train_pipeline = [
    dict(type='LoadImagePair'),
    dict(type='ResizePair', size=(480, 640)),
    dict(type='PackPair'),
]
test_pipeline = train_pipeline
train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='PerSubsetSampler', per_subset=200),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='index/scene_data/train_list/scannet_all.txt',
        data_prefix=dict(img='train', index='index/scene_data/train', intrinsics='intrinsics.npz'),
        min_score=0.4,
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
        ann_file='index/scannet_test_1500/test.npz',
        data_prefix=dict(img='test', intrinsics='index/scannet_test_1500/intrinsics.npz'),
        depth=False,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='PoseAUC', epipolar_threshold=5e-4)
test_evaluator = val_evaluator
auto_scale_lr = dict(enable=False, base_batch_size=8)
