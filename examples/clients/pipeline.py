"""The pipeline that the clients in this folder run: count the words of a text in three steps.

    python pipeline.py pipeline.json      compile it again, with kfp 2.17
"""

import sys

from kfp import compiler, dsl

IMAGE = "alpine:3.20"


@dsl.container_component
def fetch(text: str, file: dsl.Output[dsl.Dataset]):
    return dsl.ContainerSpec(image=IMAGE, command=["sh", "-c", 'printf "%s\\n" "$0" >"$1"'], args=[text, file.path])


@dsl.container_component
def count(file: dsl.Input[dsl.Dataset], words: dsl.OutputPath(int)):
    return dsl.ContainerSpec(image=IMAGE, command=["sh", "-c", 'wc -w <"$0" >"$1"'], args=[file.path, words])


@dsl.container_component
def report(words: int, sentence: dsl.OutputPath(str)):
    return dsl.ContainerSpec(image=IMAGE, command=["sh", "-c", 'printf "%s words" "$0" >"$1"'], args=[words, sentence])


@dsl.pipeline(name="count-words", description="Counts the words of a text.")
def count_words(text: str = "one two three") -> str:
    counted = count(file=fetch(text=text).outputs["file"])
    return report(words=counted.outputs["words"]).outputs["sentence"]


if __name__ == "__main__":
    compiler.Compiler().compile(count_words, sys.argv[1])
