"""Guards of what goes into models and comes out of them: pure, without a gateway or a store."""
