_base_ = 'quadtree_matcher.py'

# LoFTR is the same matcher with linear attention in its own blocks.
model = dict(
    transformer=dict(
        block=dict(type='LoFTRBlock'), attention=dict(_delete_=True, type='LinearAttention')
    )
)
