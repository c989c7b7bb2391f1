# python: kfp-2.4
"""Artifacts in a store of the network, with the unmodified kfp SDK 2.4.0."""
import _remote

_remote.main()
