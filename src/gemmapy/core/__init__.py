"""The vocabulary: what everything above talks about, and nothing that does anything."""
