//! Generates the contract crates from `proto/`: messages, clients, servers and descriptor bytes.
//!
//! `flumina-codegen ROOT OUT` reads `ROOT/proto` and writes `OUT/<crate>/src/gen`. The output is committed; a
//! test runs the generator into a temporary folder and compares.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use prost::Message;
use prost_types::FileDescriptorSet;

/// One generated crate: which proto packages it owns and where they live in Rust.
struct Target {
    /// The crate's folder, relative to the repository root.
    folder: &'static str,
    /// Its proto files, relative to `proto/`, as folders or single files.
    sources: &'static [&'static str],
    /// Proto packages of other crates and their Rust paths.
    externs: &'static [(&'static str, &'static str)],
    /// Whether services are generated beside messages.
    services: bool,
}

const GOOGLE: (&str, &str) = (".google.rpc", "::api_google::rpc");
const STEP: (&str, &str) = (".flumina.step.v1", "::api_step::v1");
/// A folder whose package is not named after it: upstream calls it just `api`.
const KFP1: (&str, &str) = ("kubeflow/pipelines/backend/api/v1beta1", "api");
const RUNNER: (&str, &str) = (".flumina.runner.v1", "::api_runner::v1");

const TARGETS: &[Target] = &[
    Target {
        folder: "libs/api/google",
        sources: &["google/rpc/status.proto"],
        externs: &[],
        services: false,
    },
    Target {
        folder: "libs/api/step",
        sources: &["flumina/step/v1"],
        externs: &[],
        services: false,
    },
    Target {
        folder: "libs/api/runner",
        sources: &["flumina/runner/v1"],
        externs: &[STEP],
        services: true,
    },
    Target {
        folder: "libs/api/pipelines",
        sources: &["flumina/pipelines/v1"],
        externs: &[RUNNER],
        services: true,
    },
    Target {
        folder: "libs/api/kfp",
        sources: &["kubeflow/pipelines/backend/api/v2beta1"],
        externs: &[GOOGLE],
        services: true,
    },
    Target {
        folder: "libs/api/kfp1",
        sources: &[KFP1.0],
        externs: &[],
        services: true,
    },
    // Tier 0 keeps to external crates, so the intermediate representation lives in the crate that reads it.
    Target {
        folder: "libs/pipeline-spec",
        sources: &["google/rpc/status.proto", "ml_pipelines", "kfp_kubernetes"],
        externs: &[],
        services: false,
    },
];

/// Messages that hold values of secrets.
const CONFIDENTIAL: [&str; 3] = [
    ".flumina.runner.v1.PutSecretRequest",
    ".flumina.step.v1.Confidential",
    ".flumina.step.v1.ConfidentialFile",
];

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let root = args.next().context("usage: flumina-codegen ROOT OUT")?;
    let out = args.next().context("usage: flumina-codegen ROOT OUT")?;
    for target in TARGETS {
        generate(&root.join("proto"), &out, target)
            .with_context(|| format!("cannot generate {}", target.folder))?;
    }
    Ok(())
}

fn generate(proto: &Path, out: &Path, target: &Target) -> Result<()> {
    let folder = out.join(target.folder).join("src/gen");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let files = sources(proto, target)?;
    let mut compiler = protox::Compiler::new([proto])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(files)?;
    let set = FileDescriptorSet::decode(compiler.encode_file_descriptor_set().as_slice())?;

    let mut builder = tonic_prost_build::configure()
        .out_dir(&folder)
        .build_client(target.services)
        .build_server(target.services)
        .bytes(".flumina.runner.v1.LogsResponse.data")
        .bytes(".flumina.pipelines.v1.ReadLogsResponse.data")
        .bytes(".flumina.pipelines.v1.ReadArtifactResponse.data")
        .build_transport(false);
    // Values of secrets must not reach a log by way of a message that is printed; these print what they may by hand.
    for message in CONFIDENTIAL {
        builder = builder.skip_debug([message]);
    }
    for (package, path) in target.externs {
        builder = builder.extern_path(*package, *path);
    }
    builder.compile_fds(set.clone())?;
    keep_own_packages(&folder, target)?;

    // Reflection and transcoding need names, numbers and options; comments would only be carried around.
    let mut bare = protox::Compiler::new([proto])?;
    bare.include_imports(true).include_source_info(false);
    bare.open_files(sources(proto, target)?)?;
    std::fs::write(
        folder.join("descriptor.bin"),
        bare.encode_file_descriptor_set(),
    )?;
    Ok(())
}

/// The target's proto files, relative to `proto`, sorted.
fn sources(proto: &Path, target: &Target) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for source in target.sources {
        let path = proto.join(source);
        if path.is_file() {
            files.push(PathBuf::from(source));
            continue;
        }
        for entry in std::fs::read_dir(&path).with_context(|| path.display().to_string())? {
            let name = entry?.file_name();
            files.push(Path::new(source).join(name));
        }
    }
    files.sort();
    Ok(files)
}

/// Removes what the generator wrote for imported packages that belong to other crates or to nobody.
fn keep_own_packages(folder: &Path, target: &Target) -> Result<()> {
    let own: Vec<String> = target
        .sources
        .iter()
        .map(|source| {
            let package = source.rsplit_once(".proto").map_or(*source, |(stem, _)| {
                stem.rsplit_once('/').map_or(stem, |(dir, _)| dir)
            });
            let package = if package == KFP1.0 { KFP1.1 } else { package };
            format!("{}.rs", package.replace('/', "."))
        })
        .collect();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !own.contains(&name) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
