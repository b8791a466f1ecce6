# Shards gradients and optimizer state, and with an auto_wrap_policy also the weights, over all
# processes; docs/large_scale.md says what to know.
runner_type = 'FlexibleRunner'
strategy = dict(
    type='mmeffvit.FSDPStrategy',
    model_wrapper=dict(type='MMFullyShardedDataParallel'),
    state_dict_cfg='full',
)
