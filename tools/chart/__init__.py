"""What is made from the chart: the schema of values, their table in the README, the list of images.

``python -m tools.chart`` writes them, ``--check`` says which are stale.
"""
