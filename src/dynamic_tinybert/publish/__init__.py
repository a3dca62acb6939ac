"""Model cards, and model folders onto the Hub."""
