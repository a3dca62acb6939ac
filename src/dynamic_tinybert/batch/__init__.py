"""Files of questions, answered in bulk."""
