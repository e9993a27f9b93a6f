"""Words of field names that hint at what a field is: of times, identities, groups and measures. Hints only: values decide with them."""

_TIMES = """
    time timestamp ts at date datetime when created updated modified epoch occurred happened t on since until expires start started
    end ended began sent received issued due emitted logged placed paid shipped
"""
_HAPPENED = "occurred happened event observed measured timestamp time ts"
_OTHER_TIMES = "updated modified expires until end ended received ingested sent"
_IDS = "id uuid guid key ulid identifier uid ref number no token"
_IDENTITIES = "id uuid guid ulid event_id event_uuid message_id"
_EVENTS = "event message msg record delivery transaction request order payment"
_GROUPS = """
    id code type kind name status state country city region station store shop user customer account device host service category
    method path product repository tenant site sensor channel source currency
"""
_MEASURES = """
    amount price total value quantity qty count size bytes duration cost fee revenue length weight score balance tax discount sum ms
    seconds temperature humidity pressure speed distance volume latency elapsed took
"""

TIMES = frozenset(_TIMES.split())
HAPPENED = frozenset(_HAPPENED.split())  # times that say when the event happened
OTHER_TIMES = frozenset(_OTHER_TIMES.split())  # times of something after it
IDS = frozenset(_IDS.split())
IDENTITIES = frozenset(_IDENTITIES.split())  # whole names of columns
EVENTS = frozenset(_EVENTS.split())  # what an identity is the identity of
GROUPS = frozenset(_GROUPS.split())
MEASURES = frozenset(_MEASURES.split())

__all__ = ["EVENTS", "GROUPS", "HAPPENED", "IDENTITIES", "IDS", "MEASURES", "OTHER_TIMES", "TIMES"]
