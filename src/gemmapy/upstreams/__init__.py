"""Servers that run models: their dialects without sockets, and one transport."""
