"""What others wrote into text files, in the format in which metrics are scraped."""
