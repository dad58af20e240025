"""The arguments of what conf/ names and Lightning is imported for, to check a config without it.

`test_recorded_arguments_are_those_of_the_real_ones` compares them with the signatures.
"""

_TRAINER = """
accelerator strategy devices num_nodes precision logger callbacks fast_dev_run max_epochs min_epochs
max_steps min_steps max_time limit_train_batches limit_val_batches limit_test_batches
limit_predict_batches overfit_batches val_check_interval check_val_every_n_epoch
num_sanity_val_steps log_every_n_steps enable_checkpointing enable_progress_bar enable_model_summary
accumulate_grad_batches gradient_clip_val gradient_clip_algorithm deterministic benchmark
inference_mode use_distributed_sampler profiler detect_anomaly barebones plugins sync_batchnorm
reload_dataloaders_every_n_epochs default_root_dir enable_autolog_hparams model_registry
"""

_MLFLOW_LOGGER = """
experiment_name run_name tracking_uri tags save_dir log_model prefix artifact_location run_id
synchronous
"""

RECORDED: dict[str, list[str] | None] = {
    "multilayer.callbacks.NetworkSummary": None,
    "multilayer.callbacks.TrainingProgress": [],
    "multilayer.training.TensorBoard": ["save_dir"],
    "pytorch_lightning.Trainer": _TRAINER.split(),
    "pytorch_lightning.loggers.CSVLogger": [
        "save_dir",
        "name",
        "version",
        "prefix",
        "flush_logs_every_n_steps",
    ],
    "pytorch_lightning.loggers.MLFlowLogger": _MLFLOW_LOGGER.split(),
    "pytorch_lightning.loggers.WandbLogger": None,
    "pytorch_lightning.profilers.SimpleProfiler": ["dirpath", "filename", "extended"],
}
"""The names of the keyword arguments by the path of a class; None if it accepts any name."""


def is_recorded(path: str, names: set[str]) -> bool:
    """Whether a class is recorded to accept arguments of these names.

    One that is not recorded to may accept them all the same, in a later version of Lightning.

    >>> is_recorded("pytorch_lightning.Trainer", {"max_epochs"}), is_recorded("mine.Trainer", set())
    (True, False)
    """
    if path not in RECORDED:
        return False
    known = RECORDED[path]
    return known is None or names <= set(known)
