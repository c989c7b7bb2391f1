"""Builds a Python environment. Run by the interpreter that it is for, with the path of a JSON document.

Every part is valid only with its completion mark; what has none is thrown away and built again. Parts are locked, so
that two builds never touch the same one. Exit codes: 20 no uv, 21 kfp, 22 the environment, 23 the user's packages.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        config = json.load(file)
    env = settings(config)
    uv = find_uv(config)
    for layer in config["layers"]:
        build(layer["dir"], lambda: install_layer(uv, env, config, layer))
    build(config["dir"], lambda: install_environment(uv, env, config))


def settings(config):
    """The machine's settings for pip, as uv knows them; what uv is told itself comes first."""
    env = dict(os.environ)

    def take(name, pip, convert=lambda text: text):
        if pip in env and name not in env:
            env[name] = convert(env[pip])

    words = lambda text: " ".join(text.split())
    take("UV_DEFAULT_INDEX", "PIP_INDEX_URL")
    take("UV_INDEX", "PIP_EXTRA_INDEX_URL", words)
    take("UV_FIND_LINKS", "PIP_FIND_LINKS", lambda text: ",".join(text.split()))
    take("UV_INSECURE_HOST", "PIP_TRUSTED_HOST", words)
    take("UV_NO_INDEX", "PIP_NO_INDEX")
    take("UV_HTTP_TIMEOUT", "PIP_DEFAULT_TIMEOUT")
    take("SSL_CERT_FILE", "PIP_CERT")
    env.update(
        UV_PYTHON_DOWNLOADS="never",
        UV_NO_PROGRESS="1",
        # As pip: the best version wins, whichever index has it.
        UV_INDEX_STRATEGY="unsafe-best-match",
    )
    urls = config["index_urls"]
    if urls:
        env["UV_DEFAULT_INDEX"] = urls[0]
        env["UV_INDEX"] = " ".join(urls[1:])
    if config["trusted_hosts"]:
        env["UV_INSECURE_HOST"] = " ".join(config["trusted_hosts"])
    return env


def find_uv(config):
    own = os.path.join(config["tools"], "uv")
    own_uv = os.path.join(own, "bin", "uv")
    for candidate in (config["uv"], shutil.which("uv"), own_uv if os.path.exists(own + ".complete") else None):
        if candidate:
            return candidate

    def install():
        run([config["interpreter"], "-m", "venv", own], 20)
        run([os.path.join(own, "bin", "python"), "-m", "pip", "install", "--quiet", "uv"], 20)

    os.makedirs(config["tools"], exist_ok=True)
    build(own, install, mark=own + ".complete")
    return own_uv


def install_layer(uv, env, config, layer):
    site = os.path.join(layer["dir"], "site")
    command = [uv, "pip", "install", "--quiet", "--no-deps", "--compile-bytecode", "--python", config["interpreter"]]
    run(command + ["--target", site, layer["requirement"]], layer["failure"], env)


def install_environment(uv, env, config):
    venv = os.path.join(config["dir"], "venv")
    run([uv, "venv", "--quiet", "--no-project", "--python", config["interpreter"], venv], 22, env)
    python = os.path.join(venv, "bin", "python")
    if config["packages"]:
        command = [uv, "pip", "install", "--compile-bytecode", "--python", python, "--"]
        run(command + config["packages"], 23, env)
    path = os.path.join(venv, "lib", "python" + config["minor"], "site-packages", "flumina_layers.pth")
    with open(path, "w", encoding="utf-8") as file:
        for layer in config["layers"]:
            if layer["always"]:
                file.write(os.path.join(layer["dir"], "site") + "\n")
    # Files may be links into the cache of uv, which is not ours to change; directories are enough against pip.
    for folder, _, _ in os.walk(venv, topdown=False):
        os.chmod(folder, 0o555)


def build(directory, make, mark=None):
    mark = mark or os.path.join(directory, "complete")
    os.makedirs(os.path.dirname(directory), exist_ok=True)
    with open(directory + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(mark):
            return
        remove(directory)
        os.makedirs(directory)
        make()
        # The mark must not be there after a power cut that took what it stands for.
        os.sync()
        with open(mark + ".new", "w", encoding="utf-8") as file:
            file.flush()
            os.fsync(file.fileno())
        os.rename(mark + ".new", mark)


def remove(directory):
    for folder, _, _ in os.walk(directory):
        os.chmod(folder, 0o755)
    shutil.rmtree(directory, ignore_errors=True)


def run(command, failure, env=None):
    print("+", *command, flush=True)
    try:
        code = subprocess.run(command, env=env, check=False).returncode
    except OSError as error:
        print(error, flush=True)
        code = 1
    if code != 0:
        sys.exit(failure)


main()
