"""Sentences that several packages write: numbers with nouns, and causes of malformed input."""
