_base_ = [
    '_base_/models/classifier.py',
    'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py',
    '_base_/schedules/imagenet_300e_swin.py',
    'mmpretrain::_base_/default_runtime.py',
]

# The authors' recipe but for the test: theirs squashes images to 256x256, we keep their aspect.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffvit.SlideSwin',
        arch='tiny',
        shift_rule='mmpretrain',
        drop_path_rate=0.2,
        out_indices=-1,
    ),
    head=dict(in_channels=768),
)
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(clip_grad=dict(max_norm=5.0))
