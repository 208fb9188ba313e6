import re

from local_stack.kafka.broker import cluster_id


def test_a_cluster_id_never_reads_as_an_option() -> None:
    made = [cluster_id() for _ in range(2000)]

    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{21}", one) for one in made)
    assert len(set(made)) == len(made)
