"""Pipelines that use what is not executed yet: refused by the name of the task and of the field."""

from _cases import refused
from _pipelines import constant, surroundings
from kfp import dsl


@refused("condition-1", "triggerPolicy.condition")
@dsl.pipeline(name="refused-if")
def refused_if(flag: bool = True):
    with dsl.If(flag == True):  # noqa: E712
        constant(value=1)


@refused("for-loop-", "parameterIterator")
@dsl.pipeline(name="refused-loop")
def refused_loop():
    with dsl.ParallelFor([1, 2]) as item:
        constant(value=item)


@refused("constant", "retryPolicy")
@dsl.pipeline(name="refused-retry")
def refused_retry():
    constant(value=1).set_retry(num_retries=2)


@refused("constant", "triggerPolicy.strategy")
@dsl.pipeline(name="refused-exit")
def refused_exit():
    with dsl.ExitHandler(constant(value=0)):
        constant(value=1)


@dsl.component
def told(status: dsl.PipelineTaskFinalStatus) -> str:
    return status.state


@refused("told", "taskFinalStatus")
@dsl.pipeline(name="refused-final-status")
def refused_final_status():
    with dsl.ExitHandler(told()):
        constant(value=1)


@dsl.pipeline(name="refused-deep-inner")
def refused_deep_inner(flag: bool = True):
    with dsl.If(flag == True):  # noqa: E712
        constant(value=1)


@refused("condition-1", "comp-refused-deep-inner")
@dsl.pipeline(name="refused-deep")
def refused_deep():
    refused_deep_inner()




try:
    from kfp import kubernetes
except ImportError:
    kubernetes = None

if kubernetes:

    @refused("secretAsEnv", "exec-surroundings")
    @dsl.pipeline(name="refused-secret")
    def refused_secret():
        kubernetes.use_secret_as_env(surroundings(), "credentials", {"password": "GREETING"})
