//! A private environment: a virtual environment of a workload's own over a shared one, with pip in it. It is a few
//! small files, so it is written here rather than by a program.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

const PIP: &str = "#!/bin/sh\nexec \"$(dirname \"$0\")/python\" -m pip \"$@\"\n";

/// What a private environment is made of.
#[derive(Debug, Clone)]
pub(crate) struct Private {
    /// The shared environment below it.
    pub(crate) over: PathBuf,
    /// The site directory of kfp.
    pub(crate) kfp: Option<PathBuf>,
    /// The site directory of pip.
    pub(crate) pip: PathBuf,
    /// The interpreter of the machine.
    pub(crate) interpreter: PathBuf,
    /// Its version, such as 3.11.7.
    pub(crate) version: String,
}

impl Private {
    /// Makes the environment; what is there already is made again.
    pub(crate) fn make(&self, dir: &Path) -> io::Result<()> {
        let site = self.site(dir);
        let bin = dir.join("bin");
        fs::create_dir_all(&site)?;
        fs::create_dir_all(&bin)?;
        fs::write(dir.join("pyvenv.cfg"), self.config())?;
        fs::write(site.join("flumina_below.pth"), self.below())?;
        let minor = self.minor();
        for name in ["python", "python3", &format!("python{minor}")] {
            match symlink(&self.interpreter, bin.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        for name in ["pip", "pip3", &format!("pip{minor}")] {
            let path = bin.join(name);
            fs::write(&path, PIP)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    }

    /// Its version without the last number, such as 3.11.
    fn minor(&self) -> String {
        let numbers: Vec<&str> = self.version.split('.').take(2).collect();
        numbers.join(".")
    }

    /// The site directory of a virtual environment.
    fn site(&self, dir: &Path) -> PathBuf {
        let lib = dir.join("lib").join(format!("python{}", self.minor()));
        lib.join("site-packages")
    }

    fn config(&self) -> String {
        let home = self.interpreter.parent().unwrap_or(Path::new("/usr/bin"));
        format!(
            "home = {}\ninclude-system-site-packages = false\nversion = {}\nexecutable = {}\n",
            home.display(),
            self.version,
            self.interpreter.display()
        )
    }

    /// Lines that add what is below, with addsitedir, so that the .pth files of packages there work too.
    fn below(&self) -> String {
        let below = self.site(&self.over);
        let paths = [Some(&below), self.kfp.as_ref(), Some(&self.pip)];
        let mut lines = String::new();
        for path in paths.into_iter().flatten() {
            let text = path.display().to_string();
            let text = text.replace('\\', "\\\\").replace('\'', "\\'");
            lines.push_str(&format!("import site; site.addsitedir('{text}')\n"));
        }
        lines
    }
}
