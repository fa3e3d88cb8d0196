"""The training loop, its options and its run folder."""
