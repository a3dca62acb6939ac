"""Numbers about a model, without a tensor: its shape, budgets and multiply-accumulates, the calibration."""
