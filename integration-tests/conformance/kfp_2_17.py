# python: kfp-2.17
"""The unmodified kfp SDK 2.17.0."""
import _journey

_journey.main("2.17.0")
