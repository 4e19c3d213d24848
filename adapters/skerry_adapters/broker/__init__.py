"""The embedded MQTT broker: 3.1.1 and 5, in process, acknowledging only what is committed."""

from skerry_adapters.broker.downlink import BrokerDownlink
from skerry_adapters.broker.rights import Login, NotInMemory, Open, PolicyRights, Refusal, Rights, Topics, Verdicts
from skerry_adapters.broker.server import Authenticate, Broker, BrokerNotListening, BrokerStatus
from skerry_adapters.broker.sessions import Limits
from skerry_adapters.broker.storage import SessionsUnreadable

__all__ = [
    "Authenticate",
    "Broker",
    "BrokerDownlink",
    "BrokerNotListening",
    "BrokerStatus",
    "Limits",
    "Login",
    "NotInMemory",
    "Open",
    "PolicyRights",
    "Refusal",
    "Rights",
    "SessionsUnreadable",
    "Topics",
    "Verdicts",
]
