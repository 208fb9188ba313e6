"""Free ports that follow each other, as several brokers and a standby have them."""

from local_stack.ports import free_port, obstacle


def in_a_row(count: int) -> int:
    """The first of so many."""
    while True:
        first = free_port()
        if not any(obstacle(port) for port in range(first, first + count)):
            return first
