"""What a request costs. Pure: prices in, nano-dollars out."""

from gemmapy.pricing.book import Price, PriceBook, cost_of

__all__ = ["Price", "PriceBook", "cost_of"]
