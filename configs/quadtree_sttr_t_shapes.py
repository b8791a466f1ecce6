_base_ = 'sttr_t_shapes.py'

model = dict(
    transformer=dict(attention=dict(_delete_=True, type='EpipolarTreeAttention', levels=3, topks=6))
)
