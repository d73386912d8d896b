"""The Python client: :class:`Client` and :class:`AsyncClient`, typed by the contract's models.

It stands at the other end of HTTP: requests go out as the contract has them, answers come back as
its models, and a problem comes back as the very error class that the service raised.
"""

from service.client.calls import UnexpectedAnswer
from service.client.connection import AsyncClient, Client
from service.client.tensors import TensorTrace

__all__ = ["AsyncClient", "Client", "TensorTrace", "UnexpectedAnswer"]
