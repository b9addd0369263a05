"""The life of a release of the chart; a package, so that its cluster ends with it."""
