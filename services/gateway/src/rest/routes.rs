//! The table of all paths, from the contracts and from the handlers written by hand.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use http::Method;
use http::uri::PathAndQuery;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};

use super::template::{Part, Template};
use crate::handlers::page::File;
use crate::json::{MessageId, Schema};

/// Handlers that no contract describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handler {
    Livez,
    Readyz,
    Page(File),
    KfpHealthz,
    UploadPipeline,
    UploadVersion,
    UploadPipelineV1,
    UploadVersionV1,
    ReadKfpArtifact,
    NodeLog,
    TaskLog,
    DownloadArtifact,
}

/// Method, path, handler; the ones in the second list stand in for a method of a contract.
const HANDLERS: &[(&str, &str, Handler)] = &[
    ("GET", "/", Handler::Page(File::Index)),
    ("GET", "/page.js", Handler::Page(File::Script)),
    ("GET", "/page.css", Handler::Page(File::Style)),
    ("GET", "/frame.html", Handler::Page(File::Frame)),
    ("GET", "/livez", Handler::Livez),
    ("GET", "/readyz", Handler::Readyz),
    ("GET", "/apis/v1beta1/healthz", Handler::KfpHealthz),
    (
        "POST",
        "/apis/v1beta1/pipelines/upload",
        Handler::UploadPipelineV1,
    ),
    (
        "POST",
        "/apis/v1beta1/pipelines/upload_version",
        Handler::UploadVersionV1,
    ),
    (
        "POST",
        "/apis/v2beta1/pipelines/upload",
        Handler::UploadPipeline,
    ),
    (
        "POST",
        "/apis/v2beta1/pipelines/upload_version",
        Handler::UploadVersion,
    ),
    (
        "GET",
        "/apis/v1beta1/runs/{run_id}/nodes/{node_id}/artifacts/{artifact_name}:read",
        Handler::ReadKfpArtifact,
    ),
    (
        "GET",
        "/apis/v2beta1/runs/{run_id}/nodes/{node_id}/artifacts/{artifact_name}:read",
        Handler::ReadKfpArtifact,
    ),
    (
        "GET",
        "/apis/v1alpha1/runs/{run_id}/nodes/{node_id}/log",
        Handler::NodeLog,
    ),
    (
        "GET",
        "/apis/flumina.pipelines/v1/artifacts/{artifact_id}:download",
        Handler::DownloadArtifact,
    ),
];
const REPLACEMENTS: &[(&str, &str, Handler)] = &[
    ("GET", "/apis/v2beta1/healthz", Handler::KfpHealthz),
    (
        "GET",
        "/apis/flumina.pipelines/v1/runs/{run_id}/tasks/{task}/logs",
        Handler::TaskLog,
    ),
];

/// What the body of a request is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BodyRule {
    None,
    Whole,
    Field(String),
}

/// A method of a contract that REST reaches.
#[derive(Debug)]
pub(crate) struct Rpc {
    pub(crate) service: Box<str>,
    pub(crate) path: PathAndQuery,
    pub(crate) input: MessageId,
    pub(crate) output: MessageId,
    pub(crate) body: BodyRule,
    pub(crate) streams: bool,
    /// The names of the path's variables in their order.
    pub(crate) variables: Vec<String>,
}

/// Where a path leads.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Rpc(Arc<Rpc>),
    Handler(Handler),
}

/// What a path was found to be.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    Target(&'a Target, Vec<&'a str>),
    /// The methods that the path has.
    OtherMethods(Vec<&'static str>),
    Nothing,
}

/// Why there is no table: a mistake in a contract or here.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// A rule that is not understood.
    #[error("the HTTP rule of {0} is not supported")]
    Rule(String),
    /// Two targets for the same requests.
    #[error("{0} has two targets")]
    Overlap(String),
    /// A handler says that it replaces a method, and there is none.
    #[error("nothing to replace at {0}")]
    Replaces(String),
}

/// A node of the tree of segments. A path visits each node at most once, so that matching is linear in the table's
/// depth, whatever the path.
#[derive(Debug, Default)]
struct Node {
    literals: HashMap<String, Node>,
    variable: Option<Box<Node>>,
    /// By verb, then by method.
    leaves: HashMap<String, Vec<(Method, Target)>>,
}

/// The compiled table.
#[derive(Debug)]
pub(crate) struct Routes {
    root: Node,
    table: Vec<String>,
}

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "PATCH"];

impl Routes {
    /// Compiles the rules of the services for which `public` says yes.
    pub(crate) fn new(
        pool: &DescriptorPool,
        schema: &Schema,
        public: impl Fn(&str) -> bool,
    ) -> Result<Self, RouteError> {
        let mut entries: BTreeMap<(String, String), (String, Template, Target, String)> =
            BTreeMap::new();
        for service in pool
            .services()
            .filter(|service| public(service.full_name()))
        {
            for method in service.methods() {
                for rule in rules(pool, &method) {
                    let (verb, path, entry) = compile(schema, &method, &rule)
                        .ok_or_else(|| RouteError::Rule(method.full_name().to_owned()))?;
                    let key = (entry.0.shape(), verb.clone());
                    let note = describe(&method, &entry.1);
                    let value = (path, entry.0, Target::Rpc(Arc::new(entry.1)), note);
                    if entries.insert(key.clone(), value).is_some() {
                        return Err(RouteError::Overlap(format!("{} {}", verb, key.0)));
                    }
                }
            }
        }
        let replacing = REPLACEMENTS.iter().map(|entry| (entry, true));
        for ((verb, path, handler), replaces) in
            HANDLERS.iter().map(|entry| (entry, false)).chain(replacing)
        {
            let template =
                Template::parse(path).ok_or_else(|| RouteError::Rule((*path).to_owned()))?;
            let key = (template.shape(), (*verb).to_owned());
            let mut note = format!("handler {handler:?}");
            match (entries.remove(&key), replaces) {
                (None, false) => {}
                (Some(old), true) => note.push_str(&format!(", instead of {}", old.3)),
                (Some(_), false) => return Err(RouteError::Overlap((*path).to_owned())),
                (None, true) => return Err(RouteError::Replaces((*path).to_owned())),
            }
            let value = (
                (*path).to_owned(),
                template,
                Target::Handler(*handler),
                note,
            );
            entries.insert(key, value);
        }
        let mut routes = Self {
            root: Node::default(),
            table: Vec::new(),
        };
        for ((_, verb), (path, template, target, note)) in entries {
            routes.table.push(format!("{verb:<6} {path} -> {note}"));
            routes.insert(&verb, &template, target);
        }
        Ok(routes)
    }

    /// The table as text, one route a line.
    pub(crate) fn table(&self) -> String {
        let mut text = self.table.join("\n");
        text.push('\n');
        text
    }

    fn insert(&mut self, verb: &str, template: &Template, target: Target) {
        let mut node = &mut self.root;
        for part in &template.parts {
            node = match part {
                Part::Literal(literal) => node.literals.entry(literal.clone()).or_default(),
                Part::Variable(_) => node.variable.get_or_insert_default(),
            };
        }
        let method = Method::from_bytes(verb.as_bytes()).unwrap_or(Method::GET);
        node.leaves
            .entry(template.verb.clone())
            .or_default()
            .push((method, target));
    }

    /// Finds the target of a request; the segments of the path's variables come with it, still encoded.
    pub(crate) fn find<'a>(&'a self, method: &Method, path: &'a str) -> Found<'a> {
        let Some(rest) = path.strip_prefix('/') else {
            return Found::Nothing;
        };
        let segments: Vec<&str> = rest.split('/').collect();
        let mut search = Search {
            method,
            others: Vec::new(),
            variables: Vec::new(),
        };
        match search.descend(&self.root, &segments) {
            Some(target) => Found::Target(target, search.variables),
            None if search.others.is_empty() => Found::Nothing,
            None => {
                let allowed = METHODS
                    .into_iter()
                    .filter(|name| search.others.iter().any(|method| method.as_str() == *name));
                Found::OtherMethods(allowed.collect())
            }
        }
    }
}

struct Search<'m, 'a> {
    method: &'m Method,
    others: Vec<&'a Method>,
    variables: Vec<&'a str>,
}

impl<'a> Search<'_, 'a> {
    fn descend(&mut self, node: &'a Node, segments: &[&'a str]) -> Option<&'a Target> {
        let (segment, rest) = segments.split_first()?;
        if rest.is_empty() {
            // A verb that the path knows comes before a name that happens to hold a colon.
            if let Some((name, verb)) = segment.rsplit_once(':')
                && let Some(target) = self.last(node, name, verb)
            {
                return Some(target);
            }
            return self.last(node, segment, "");
        }
        if let Some(next) = node.literals.get(*segment)
            && let Some(target) = self.descend(next, rest)
        {
            return Some(target);
        }
        let next = node.variable.as_deref().filter(|_| !segment.is_empty())?;
        self.variables.push(segment);
        let found = self.descend(next, rest);
        if found.is_none() {
            self.variables.pop();
        }
        found
    }

    fn last(&mut self, node: &'a Node, name: &'a str, verb: &str) -> Option<&'a Target> {
        if let Some(target) = node
            .literals
            .get(name)
            .and_then(|node| self.leaf(node, verb))
        {
            return Some(target);
        }
        let next = node.variable.as_deref().filter(|_| !name.is_empty())?;
        let target = self.leaf(next, verb)?;
        self.variables.push(name);
        Some(target)
    }

    fn leaf(&mut self, node: &'a Node, verb: &str) -> Option<&'a Target> {
        let leaves = node.leaves.get(verb)?;
        let found = leaves.iter().find(|(method, _)| method == self.method);
        if found.is_none() {
            self.others.extend(leaves.iter().map(|(method, _)| method));
        }
        found.map(|(_, target)| target)
    }
}

/// The rule of a method and its additional bindings.
fn rules(pool: &DescriptorPool, method: &MethodDescriptor) -> Vec<DynamicMessage> {
    let Some(extension) = pool.get_extension_by_name("google.api.http") else {
        return Vec::new();
    };
    let options = method.options();
    if !options.has_extension(&extension) {
        return Vec::new();
    }
    let Some(rule) = options.get_extension(&extension).as_message().cloned() else {
        return Vec::new();
    };
    let more: Vec<DynamicMessage> = rule
        .get_field_by_name("additional_bindings")
        .and_then(|list| {
            let list = list.as_list()?;
            Some(
                list.iter()
                    .filter_map(|value| value.as_message().cloned())
                    .collect(),
            )
        })
        .unwrap_or_default();
    std::iter::once(rule).chain(more).collect()
}

fn compile(
    schema: &Schema,
    method: &MethodDescriptor,
    rule: &DynamicMessage,
) -> Option<(String, String, (Template, Rpc))> {
    let text = |name: &str| -> Option<String> {
        let value = rule.get_field_by_name(name)?;
        let text = value.as_str()?;
        (!text.is_empty()).then(|| text.to_owned())
    };
    let (verb, path) = METHODS
        .into_iter()
        .find_map(|verb| Some((verb, text(&verb.to_lowercase())?)))?;
    let template = Template::parse(&path)?;
    let input = schema.find(method.input().full_name())?;
    let variables: Vec<String> = template
        .parts
        .iter()
        .filter_map(|part| match part {
            Part::Variable(name) => Some(name.clone()),
            Part::Literal(_) => None,
        })
        .collect();
    let body = match text("body").as_deref() {
        None => BodyRule::None,
        Some("*") => BodyRule::Whole,
        Some(field) => BodyRule::Field(field.to_owned()),
    };
    let known = |name: &str| schema.path(input, name).is_some();
    let body_known = match &body {
        BodyRule::Field(field) => known(field),
        _ => true,
    };
    if method.is_client_streaming() || !body_known || !variables.iter().all(|name| known(name)) {
        return None;
    }
    let service = method.parent_service().full_name().to_owned();
    let rpc = Rpc {
        path: format!("/{service}/{}", method.name()).parse().ok()?,
        service: service.into(),
        input,
        output: schema.find(method.output().full_name())?,
        body,
        streams: method.is_server_streaming(),
        variables,
    };
    Some((verb.to_owned(), path, (template, rpc)))
}

fn describe(method: &MethodDescriptor, rpc: &Rpc) -> String {
    let mut text = method.full_name().to_owned();
    match &rpc.body {
        BodyRule::None => {}
        BodyRule::Whole => text.push_str(" body=*"),
        BodyRule::Field(field) => text.push_str(&format!(" body={field}")),
    }
    if rpc.streams {
        text.push_str(" stream");
    }
    text
}
