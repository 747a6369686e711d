"""The stories, by the category of their alerts."""
