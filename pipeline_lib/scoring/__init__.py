"""Batch prediction: a trained model over Parquet files, shard by shard."""
