"""Facts about a model: shape, budgets, multiply-accumulates, table, calibration, tensors in INT8."""

from dynamic_tinybert.model.budget import (
    BERT_BASE,
    LEAST_LENGTH,
    LENGTH_ROUNDING,
    SHARE_ROUNDING,
    SHARE_TOKENS,
    Budget,
    BudgetError,
    LengthConfig,
    macs,
    macs_of_each,
    parse_budget,
    share,
)
from dynamic_tinybert.model.calibration import Calibration, CalibrationError, logistic
from dynamic_tinybert.model.quantized import Precision, QuantizedTensor
from dynamic_tinybert.model.shape import (
    Activation,
    Bottleneck,
    Disentangled,
    ModelShape,
    Modern,
    Significance,
    read_significance,
    stored_significance,
)
from dynamic_tinybert.model.table import ConfigTable, MeasuredConfig, Threshold, check_threshold, dump_table, table_row

__all__ = [
    "BERT_BASE",
    "LEAST_LENGTH",
    "LENGTH_ROUNDING",
    "SHARE_ROUNDING",
    "SHARE_TOKENS",
    "Activation",
    "Bottleneck",
    "Budget",
    "BudgetError",
    "Calibration",
    "CalibrationError",
    "ConfigTable",
    "Disentangled",
    "LengthConfig",
    "MeasuredConfig",
    "ModelShape",
    "Modern",
    "Precision",
    "QuantizedTensor",
    "Significance",
    "Threshold",
    "check_threshold",
    "dump_table",
    "logistic",
    "macs",
    "macs_of_each",
    "parse_budget",
    "read_significance",
    "share",
    "stored_significance",
    "table_row",
]
