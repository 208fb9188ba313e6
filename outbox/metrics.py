"""What the relay counts, for `/metrics` and `muster lag`."""

from prometheus_client import Counter, Gauge, Histogram

BACKLOG = Gauge("muster_outbox_backlog_events", "Events committed and not yet published; an estimate above 10,000.")
OLDEST = Gauge("muster_outbox_oldest_unpublished_seconds", "Age of the oldest event not yet published; 0 for none.")
PUBLISHED = Counter("muster_outbox_published_total", "Events published by this process.")
#: Append to committed on Kafka; buckets in seconds, from the best a trickle can reach to a long outage.
PUBLISH_SECONDS = Histogram(
    "muster_outbox_publish_seconds",
    "From the command's transaction to the event's commit on Kafka.",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)
LEADER = Gauge("muster_outbox_leader", "1 while this process publishes, 0 on standby.")
PRODUCER_RECREATED = Counter("muster_outbox_producer_recreated_total", "Producers discarded after an error.")
BELOW_FLOOR = Counter("muster_outbox_below_floor_total", "Rows found below the floor; any is a bug.")
