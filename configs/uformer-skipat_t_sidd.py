_base_ = 'uformer_skipat_t_sidd.py'
_deprecation_ = dict(expected='uformer_skipat_t_sidd.py')
