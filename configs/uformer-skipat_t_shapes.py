_base_ = 'uformer_skipat_t_shapes.py'
_deprecation_ = dict(expected='uformer_skipat_t_shapes.py')
