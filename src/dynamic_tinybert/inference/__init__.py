"""Windows in, ranked spans out: tokenizer windows, the model's logits, the ranking."""
