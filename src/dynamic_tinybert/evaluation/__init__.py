"""What a model is worth on SQuAD, and the calibration of its confidence and its no-answer threshold."""
