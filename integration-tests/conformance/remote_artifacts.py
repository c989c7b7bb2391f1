# python: kfp-2.17
"""Artifacts in a store of the network, with the unmodified kfp SDK 2.17.0."""
import _remote

_remote.main()
