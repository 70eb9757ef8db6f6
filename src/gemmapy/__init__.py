"""GemmaPy: a gateway in front of LLM servers that meters, prices and shows every request."""

__version__ = "0.1.0"
