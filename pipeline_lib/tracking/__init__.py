"""MLflow: the only folder that imports it.

What is logged follows from artifacts alone. Live curves are a courtesy; `deliver` completes whatever is missing.
"""
