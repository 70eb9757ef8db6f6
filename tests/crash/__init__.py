"""Killed at any moment, and whatever else can befall a gateway."""
