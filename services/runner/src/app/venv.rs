//! A private environment: a virtual environment of a workload's own over a shared one, with pip in it. It is a few
//! small files, so it is written here rather than by a program.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

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
        let minor: String = self
            .version
            .splitn(3, '.')
            .take(2)
            .collect::<Vec<_>>()
            .join(".");
        let site = dir
            .join("lib")
            .join(format!("python{minor}"))
            .join("site-packages");
        let bin = dir.join("bin");
        fs::create_dir_all(&site)?;
        fs::create_dir_all(&bin)?;
        let home = self.interpreter.parent().unwrap_or(Path::new("/usr/bin"));
        let config = format!(
            "home = {}\ninclude-system-site-packages = false\nversion = {}\nexecutable = {}\n",
            home.display(),
            self.version,
            self.interpreter.display()
        );
        fs::write(dir.join("pyvenv.cfg"), config)?;
        for name in [
            "python".to_owned(),
            "python3".to_owned(),
            format!("python{minor}"),
        ] {
            match symlink(&self.interpreter, bin.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        // addsitedir, so that the .pth files of packages below work too.
        let below = self
            .over
            .join("lib")
            .join(format!("python{minor}"))
            .join("site-packages");
        let mut lines = String::new();
        for path in [Some(&below), self.kfp.as_ref(), Some(&self.pip)]
            .into_iter()
            .flatten()
        {
            let text = path
                .display()
                .to_string()
                .replace('\\', "\\\\")
                .replace('\'', "\\'");
            lines.push_str(&format!("import site; site.addsitedir('{text}')\n"));
        }
        fs::write(site.join("flumina_below.pth"), lines)?;
        for name in ["pip".to_owned(), "pip3".to_owned(), format!("pip{minor}")] {
            let path = bin.join(name);
            fs::write(
                &path,
                "#!/bin/sh\nexec \"$(dirname \"$0\")/python\" -m pip \"$@\"\n",
            )?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    }
}
