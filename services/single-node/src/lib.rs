//! stub
use std::path::{Path, PathBuf};
use std::process::ExitCode;
#[derive(Debug)]
pub struct UpOptions { pub data_dir: PathBuf, pub listen: Option<String>, pub config: Option<PathBuf>, pub insecure: bool, pub stop_on_exit: bool, pub token: Option<auth::Secret> }
pub fn up(_options: UpOptions) -> ExitCode { ExitCode::FAILURE }
#[derive(Debug)]
pub struct Down { pub was_running: bool, pub stopped_steps: usize }
pub fn down(_dir: &Path) -> anyhow::Result<Down> { anyhow::bail!("x") }
pub fn backup(_dir: &Path, _file: &Path) -> anyhow::Result<u64> { anyhow::bail!("x") }
pub fn restore(_file: &Path, _dir: &Path) -> anyhow::Result<()> { anyhow::bail!("x") }
pub fn default_data_dir() -> anyhow::Result<PathBuf> { anyhow::bail!("x") }
