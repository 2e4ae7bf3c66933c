"""The bundles, and the command line that runs them."""
