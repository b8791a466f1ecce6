_base_ = 'uniformer_skipat_davis.py'
_deprecation_ = dict(expected='uniformer_skipat_davis.py')
