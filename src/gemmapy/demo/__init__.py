"""A team that does not exist: a believable quarter of its use, and its requests from now on. `gemmapy demo`."""
