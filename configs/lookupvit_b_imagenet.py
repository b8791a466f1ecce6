_base_ = [
    '_base_/models/lookupvit_classifier.py',
    'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py',
    '_base_/schedules/imagenet_300e_deit.py',
    'mmpretrain::_base_/default_runtime.py',
]

# The recipe is ours, the authors' is not published: DeiT's without repeated augmentation.
train_dataloader = dict(batch_size=128)
