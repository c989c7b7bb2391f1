# python: kfp-2.4
"""The unmodified kfp SDK 2.4.0."""
import _journey

_journey.main("2.4.0")
