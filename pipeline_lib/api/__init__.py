"""What `pipeline_lib` offers to notebooks and scripts, on top of the steps."""
