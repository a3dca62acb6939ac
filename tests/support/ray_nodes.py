"""A Ray cluster of two nodes on this machine, one of which can be lost."""

from __future__ import annotations


class Cluster:
    """Two nodes, of one core each: a raylet and workers of its own for each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as Nodes

        self._nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1})
        self.address: str = self._nodes.address
        self.second = self._nodes.add_node(num_cpus=1)
        self._nodes.wait_for_nodes()

    def kill_second(self) -> None:
        """End all processes of the second node, as the loss of a machine does."""
        self._nodes.remove_node(self.second, allow_graceful=False)

    def stop(self) -> None:
        self._nodes.shutdown()
