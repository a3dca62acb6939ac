"""Evaluate a model, and fit what tells right answers from wrong ones: the confidence and the no-answer threshold."""

from dynamic_tinybert.evaluation.calibration import Fitted, Sample, calibrate, draw_sample
from dynamic_tinybert.evaluation.confidence import calibration_entry, calibration_figures, fit_calibration
from dynamic_tinybert.evaluation.evaluation import Evaluation, evaluate
from dynamic_tinybert.evaluation.observations import Observations, observe
from dynamic_tinybert.evaluation.threshold import best_threshold, fit_threshold, rejecting_threshold, threshold_figures

__all__ = [
    "Evaluation",
    "Fitted",
    "Observations",
    "Sample",
    "best_threshold",
    "calibrate",
    "calibration_entry",
    "calibration_figures",
    "draw_sample",
    "evaluate",
    "fit_calibration",
    "fit_threshold",
    "observe",
    "rejecting_threshold",
    "threshold_figures",
]
