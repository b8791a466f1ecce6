# The matcher of the QuadTree paper, as its authors train it outdoors.
model = dict(
    type='FeatureMatcher',
    backbone=dict(type='ResNetFPN', initial_dims=128, block_dims=(128, 196, 256)),
    transformer=dict(
        type='MatchingTransformer',
        num_heads=8,
        kinds=('self', 'cross') * 4,
        block=dict(type='CrossBlock'),
        attention=dict(
            type='QuadTreeAttention',
            levels=3,
            topks=(16, 8, 8),
            kind='B',
            lepe=False,
            value_branch=False,
        ),
    ),
    coarse=dict(type='DualSoftmax', threshold=0.2, border=2, temperature=0.1),
    coarse_loss=dict(type='CoarseMatchingLoss', kind='focal'),
    fine_loss=dict(type='FineMatchingLoss', kind='l2_with_std'),
    train_cfg=dict(fine_share=0.3),
)
