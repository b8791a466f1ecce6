_base_ = 'uniformer_skipat_shapes.py'
_deprecation_ = dict(expected='uniformer_skipat_shapes.py')
