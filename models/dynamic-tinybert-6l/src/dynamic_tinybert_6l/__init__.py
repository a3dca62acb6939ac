"""The model dynamic-tinybert-6l: a model folder, which `QuestionAnswerer("dynamic-tinybert-6l")` opens."""
