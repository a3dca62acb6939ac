"""Documents of many formats to text."""
