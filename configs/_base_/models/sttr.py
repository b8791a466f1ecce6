# STTR as its authors train it.
model = dict(
    type='StereoMatching',
    features=dict(type='STTRFeatures', embed_dims=128),
    transformer=dict(
        type='StereoTransformer',
        num_heads=8,
        depth=6,
        attention=dict(type='EpipolarAttention'),
        with_cp=True,
    ),
    regression=dict(
        type='DisparityRegression',
        iterations=10,
        context=dict(type='ContextAdjustment', num_blocks=8, channels=16, expansion=4),
    ),
    stride=3,
    loss=dict(type='StereoLoss'),
)
