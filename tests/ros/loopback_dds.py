"""DDS of the tests: on this machine only."""

from __future__ import annotations

import os


def loopback(number: int) -> dict[str, str]:
    """Environment in which DDS stays on this machine, for every vendor."""
    humble = {"ROS_LOCALHOST_ONLY": "1"} if os.environ.get("ROS_DISTRO") == "humble" else {}
    return {
        **humble,
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_DOMAIN_ID": str(1 + number % 100),
        "CYCLONEDDS_URI": (
            "<CycloneDDS><Domain Id='any'><General><Interfaces><NetworkInterface name='lo' multicast='false'/>"
            "</Interfaces><AllowMulticast>false</AllowMulticast></General><Discovery>"
            "<ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>60</MaxAutoParticipantIndex>"
            "<Peers><Peer Address='127.0.0.1'/></Peers></Discovery></Domain></CycloneDDS>"
        ),
    }
