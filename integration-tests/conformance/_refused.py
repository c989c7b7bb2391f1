"""Pipelines that use what is not executed yet: refused by the name of the task and of the field."""

from _cases import refused
from _pipelines import constant, surroundings
from kfp import dsl


try:
    from kfp import kubernetes
except ImportError:
    kubernetes = None

if kubernetes:

    @refused("secretAsEnv", "exec-surroundings")
    @dsl.pipeline(name="refused-secret")
    def refused_secret():
        kubernetes.use_secret_as_env(surroundings(), "credentials", {"password": "GREETING"})
