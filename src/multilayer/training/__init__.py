"""A run from its config to its result: the module, its Trainer, evaluation and prediction."""
