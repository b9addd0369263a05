"""Custom resource definitions, made from ``common.resources``: ``python -m operators.crds`` writes them."""
