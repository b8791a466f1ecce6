_base_ = 'uformer_skipat_b_sidd.py'
_deprecation_ = dict(expected='uformer_skipat_b_sidd.py')
