"""The URL table and thin handlers."""
