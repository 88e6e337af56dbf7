"""Dialects: what a request means and how a run is told, in the words of one wire protocol; and what a dialect needs."""

from agenthost.hookspecs import Dialect
from agenthost.protocols.exchange import ClientWatch, Exchange, exchange_of

__all__ = ["ClientWatch", "Dialect", "Exchange", "exchange_of"]
