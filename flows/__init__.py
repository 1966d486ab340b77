"""Flows: what runs, one Prefect flow a file. A flow reads as a sentence and imports tasks alone."""
