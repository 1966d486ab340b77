"""Data: read sources, check rows, split them, encode them to Parquet shards."""
