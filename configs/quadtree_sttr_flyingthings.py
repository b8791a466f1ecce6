_base_ = 'sttr_flyingthings.py'

# Ours: how the paper's stereo network uses the tree is not published.
model = dict(
    transformer=dict(attention=dict(_delete_=True, type='EpipolarTreeAttention', levels=4, topks=6))
)
