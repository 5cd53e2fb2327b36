"""Does a method keep its quality when the head is turned another way? Internal differences (Table 2)."""

from nfs_lib.errors import BadInput


def internal_differences(own: dict[str, float], flipped: dict[str, float]) -> dict[str, float]:
    """Δ of each metric: its value at the input's pose minus its value at the flipped pose; a smaller |Δ| is more robust.

    own, flipped: metric → value of one method, run with the pose of the input picture and with that of the picture mirrored
    left to right (yaw and roll change their signs; person and sound stay). A metric that couldn't be measured is NaN and
    gives NaN. Raises BadInput unless both name the same metrics.
    """
    if own.keys() != flipped.keys():
        raise BadInput(f"metrics {', '.join(own) or 'none'} and {', '.join(flipped) or 'none'} were given; expected the same "
                       "of both runs: measure both poses with the same command")
    return {name: own[name] - flipped[name] for name in own}
