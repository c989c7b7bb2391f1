# python: kfp-2.9
"""The unmodified kfp SDK 2.9.0."""
import _journey

_journey.main("2.9.0")
