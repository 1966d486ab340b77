"""Batch prediction: apply a trained model to Parquet files, shard by shard."""
