//! The engine against examples, against a reference model, and against a count of its work.

mod anew;
mod build;
mod cache;
mod cache_world;
mod flow;
mod inputs;
mod loops;
mod parallelism;
mod pipelines;
mod platform;
mod random;
mod recursion;
mod reference;
mod resume;
mod retries;
mod rows;
mod rules;
mod values;
mod work;
