//! Executors: what runs, and with what resources.

use std::collections::{BTreeMap, HashMap};

use super::{Faults, interface, sorted};
use crate::{
    document::Document,
    placeholder,
    plan::{Container, Executor, Importer, ImporterUri, Resources},
    proto::ml_pipelines::{
        pipeline_deployment_config::{
            ImporterSpec, PipelineContainerSpec,
            executor_spec::Spec,
            pipeline_container_spec::{ResourceSpec, resource_spec::AcceleratorConfig},
        },
        value_or_runtime_parameter::Value as Kind,
    },
    quantity,
};

/// Reads all executors; those of a kind that nothing here runs are faults.
pub(super) fn read(document: &Document, faults: &mut Faults) -> BTreeMap<String, Executor> {
    let mut executors = BTreeMap::new();
    let sources: &HashMap<_, _> = &document.deployment.executors;
    for (label, source) in sorted(sources) {
        let at = path_of(label);
        let executor = match &source.spec {
            Some(Spec::Container(spec)) => {
                let platform = document.kubernetes.get(label).cloned().unwrap_or_default();
                let container = container(&format!("{at}.container"), spec, faults);
                Executor::Container(Container {
                    platform,
                    ..container
                })
            }
            Some(Spec::Importer(spec)) => {
                Executor::Importer(importer(&format!("{at}.importer"), spec, faults))
            }
            Some(Spec::Resolver(_)) => {
                faults.add(format!("{at}.resolver"), "resolvers are not executed");
                continue;
            }
            #[expect(deprecated, reason = "old documents have it")]
            Some(Spec::CustomJob(_)) => {
                faults.add(
                    format!("{at}.customJob"),
                    "custom jobs of Vertex AI are not executed",
                );
                continue;
            }
            None => {
                faults.add(at, "the executor is empty");
                continue;
            }
        };
        executors.insert(label.clone(), executor);
    }
    for label in document.kubernetes.keys() {
        if !sources.contains_key(label) {
            faults.add(
                format!("platforms.kubernetes.deploymentSpec.executors.{label}"),
                "there is no such executor in deploymentSpec.executors",
            );
        }
    }
    executors
}

/// Whether the executor stands in the document but was refused; one fault is enough.
pub(super) fn refused(label: &str, faults: &Faults) -> bool {
    let at = path_of(label);
    faults.0.iter().any(|fault| {
        fault
            .field
            .strip_prefix(&at)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

fn path_of(label: &str) -> String {
    format!("deploymentSpec.executors.{label}")
}

fn container(at: &str, spec: &PipelineContainerSpec, faults: &mut Faults) -> Container {
    if spec.image.is_empty() {
        faults.add(format!("{at}.image"), "the container has no image");
    }
    for (index, variable) in spec.env.iter().enumerate() {
        let name = &variable.name;
        if name.is_empty() || name.contains(['=', '\0']) {
            faults.add(
                format!("{at}.env[{index}].name"),
                format!("'{name}' is not a name of an environment variable"),
            );
        }
    }
    Container {
        image: spec.image.clone(),
        command: spec.command.clone(),
        args: spec.args.clone(),
        env: spec
            .env
            .iter()
            .map(|variable| (variable.name.clone(), variable.value.clone()))
            .collect(),
        resources: spec
            .resources
            .as_ref()
            .map_or_else(Resources::default, |spec| {
                resources(&format!("{at}.resources"), spec, faults)
            }),
        platform: serde_json::Value::Null,
        files: Default::default(),
    }
}

/// The string fields count; the older numbers (cores, and memory in GB) stand in for those that are missing.
#[expect(deprecated, reason = "older compilers write only the numbers")]
fn resources(at: &str, spec: &ResourceSpec, faults: &mut Faults) -> Resources {
    let mut quantity = |name: &str, text: &str, number: f64, unit: &str| {
        if !text.is_empty() {
            if !quantity::valid(text) && !placeholder::any(text) {
                faults.add(
                    format!("{at}.{name}"),
                    format!("'{text}' is not a quantity such as 500m or 2Gi"),
                );
            }
            return text.to_owned();
        }
        if !number.is_finite() || number < 0.0 {
            faults.add(
                format!("{at}.{name}"),
                format!("{number} is not a quantity"),
            );
        }
        match number > 0.0 && number.is_finite() {
            true => format!("{number}{unit}"),
            false => String::new(),
        }
    };
    let none = AcceleratorConfig::default();
    let accelerator = spec.accelerator.as_ref().unwrap_or(&none);
    let number = |count: i64| match count {
        0 => String::new(),
        count => count.to_string(),
    };
    let found = Resources {
        cpu_limit: quantity(
            "resourceCpuLimit",
            &spec.resource_cpu_limit,
            spec.cpu_limit,
            "",
        ),
        cpu_request: quantity(
            "resourceCpuRequest",
            &spec.resource_cpu_request,
            spec.cpu_request,
            "",
        ),
        memory_limit: quantity(
            "resourceMemoryLimit",
            &spec.resource_memory_limit,
            spec.memory_limit,
            "G",
        ),
        memory_request: quantity(
            "resourceMemoryRequest",
            &spec.resource_memory_request,
            spec.memory_request,
            "G",
        ),
        accelerator_type: super::or(accelerator.resource_type.clone(), &accelerator.r#type),
        accelerator_count: super::or(
            accelerator.resource_count.clone(),
            &number(accelerator.count),
        ),
    };
    let count = &found.accelerator_count;
    if !count.is_empty() && count.parse::<u32>().is_err() && !placeholder::any(count) {
        faults.add(
            format!("{at}.accelerator.resourceCount"),
            format!("'{count}' is not a count"),
        );
    }
    found
}

fn importer(at: &str, spec: &ImporterSpec, faults: &mut Faults) -> Importer {
    let uri = spec
        .artifact_uri
        .as_ref()
        .and_then(|uri| uri.value.as_ref());
    let text = match uri {
        Some(Kind::RuntimeParameter(name)) => {
            return Importer {
                uri: ImporterUri::Parameter(name.clone()),
                ..importer_of(spec)
            };
        }
        Some(Kind::Constant(value)) => interface::json(value),
        #[expect(deprecated, reason = "old compilers write it")]
        Some(Kind::ConstantValue(value)) => interface::legacy(value).unwrap_or_default(),
        None => serde_json::Value::Null,
    };
    let text = text.as_str().unwrap_or_default();
    if text.is_empty() {
        faults.add(
            format!("{at}.artifactUri"),
            "the URI is missing or not text",
        );
    }
    Importer {
        uri: ImporterUri::Constant(text.to_owned()),
        ..importer_of(spec)
    }
}

/// The importer but for its URI.
fn importer_of(spec: &ImporterSpec) -> Importer {
    Importer {
        uri: ImporterUri::Constant(String::new()),
        artifact_type: interface::artifact_type(spec.type_schema.as_ref()),
        metadata: interface::metadata(
            spec.metadata.as_ref(),
            &spec.properties,
            &spec.custom_properties,
        ),
        reimport: spec.reimport,
        download_to_workspace: spec.download_to_workspace,
    }
}
