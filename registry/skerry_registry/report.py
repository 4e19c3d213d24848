"""What a server tells about itself: to `/health`, and to Prometheus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from skerry import times
from skerry_adapters.broker import Broker
from skerry_registry import disk
from skerry_registry.http.operations import Gauge

if TYPE_CHECKING:
    from skerry_adapters.mqtt import MqttClient
    from skerry_registry.opening import Parts


def health(parts: Parts) -> dict[str, Any]:
    """Every part's state; UP when all are."""
    sink = parts.sink.status
    journal = parts.registry.journal
    room = disk.room(Path(parts.settings.data_dir))
    found: dict[str, dict[str, Any]] = {
        "journal": {"status": "UP", "number": journal.last},
        "disk": {"status": "DOWN" if room.little else "UP", "free": room.free, "size": room.size},
        "series": {
            "status": "UP" if sink.error is None else "DOWN",
            "store": "influxdb" if parts.settings.influx_url else "embedded",
            "number": sink.cursor,
            "behind": journal.last - sink.cursor,
            "error": sink.error,
            "since": None if sink.since is None else times.write(sink.since),
        },
    }
    if isinstance(parts.broker, Broker):
        status = parts.broker.status()
        found["broker"] = {
            "status": "UP" if status.failing is None else "DOWN",
            "connections": status.connections,
            "error": status.failing,
        }
    else:
        link = parts.broker.status
        host = urlsplit(parts.settings.mqtt_url or "").hostname
        found["mqtt"] = {
            "status": "UP" if link.connected else "DOWN",
            "broker": host,
            "since": times.write(link.since),
            "error": link.error,
        }
    up = all(part["status"] == "UP" for part in found.values())
    return {"status": "UP" if up else "DOWN", "parts": found}


def gauges(parts: Parts) -> list[Gauge]:
    """What Prometheus reads."""
    journal, sink, counters = parts.registry.journal, parts.sink, parts.inlet.counters
    folder = Path(parts.settings.data_dir)
    return [
        Gauge("journal_number", "Number of the newest event.", lambda: journal.last),
        Gauge("series_number", "Number of the newest event that history shows.", lambda: sink.status.cursor),
        Gauge("series_behind", "Events that history does not show yet.", lambda: journal.last - sink.status.cursor),
        Gauge("series_samples", "Samples written.", lambda: sink.status.samples, "counter"),
        Gauge("audit_number", "Number of the newest event in the audit trail.", lambda: parts.trail.status().place),
        Gauge(
            "audit_lost",
            "Refusals that found no room in the audit trail.",
            lambda: parts.trail.status().lost,
            "counter",
        ),
        Gauge("disk_free_bytes", "Room on the disk of the data folder.", lambda: disk.room(folder).free),
        Gauge("mqtt_received", "MQTT messages taken in.", lambda: counters.received, "counter"),
        Gauge("mqtt_committed", "MQTT messages committed, or known already.", lambda: counters.committed, "counter"),
        Gauge("mqtt_dead", "MQTT messages that became dead letters.", lambda: counters.dead, "counter"),
        Gauge("mqtt_retried", "Batches tried again because the store was away.", lambda: counters.retried, "counter"),
        Gauge(
            "mqtt_connected",
            "Connected devices, or 1 while the external broker is there.",
            lambda: _connected(parts.broker),
        ),
        *(_of_broker(parts.broker) if isinstance(parts.broker, Broker) else ()),
    ]


def _connected(broker: Broker | MqttClient) -> float:
    if isinstance(broker, Broker):
        return broker.status().connections
    return float(broker.status.connected)


def _of_broker(broker: Broker) -> list[Gauge]:
    """What became of messages and logins that the embedded broker could not follow."""
    status = broker.status
    return [
        Gauge("broker_delivered", "Messages sent on to subscribers.", lambda: status().delivered, "counter"),
        Gauge(
            "broker_dropped", "Messages that found no room with a slow subscriber.", lambda: status().dropped, "counter"
        ),
        Gauge("broker_refused", "Messages that were not allowed.", lambda: status().refused, "counter"),
        Gauge("broker_logins_refused", "Logins that were refused.", lambda: status().logins_refused, "counter"),
    ]
