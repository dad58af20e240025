from .callback import LearningRateSweep as LearningRateSweep
