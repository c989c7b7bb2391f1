//! The specification within an uploaded file, which is not trusted.

use std::io::{Cursor, ErrorKind, Read};

use flate2::read::MultiGzDecoder;

use crate::Error;

/// Members that an archive may have.
const MAX_MEMBERS: usize = 1000;
/// Directories that a zip may have, with those of zips that are members of it without compression.
const MAX_DIRECTORIES: usize = 16;
/// Bytes of padding and headers that a tar may have besides its content.
const TAR_OVERHEAD: u64 = 4 << 20;

/// Takes the specification out of a file: YAML and JSON by name, zip and gzipped tar by their first bytes. In an archive
/// it is the member `pipeline.yaml`, or else the first that is YAML. Nothing is written to disk, and no more than
/// `limit` bytes are unpacked.
pub(super) fn specification(name: &str, file: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
    if file.len() > limit {
        return Err(too_large(limit));
    }
    if file.starts_with(&[0x1f, 0x8b]) {
        return from_tar(file, limit);
    }
    if file.starts_with(b"PK\x03\x04") || file.starts_with(b"PK\x05\x06") {
        return from_zip(file, limit);
    }
    let lower = name.to_ascii_lowercase();
    if [".yaml", ".yml", ".json"]
        .iter()
        .any(|end| lower.ends_with(end))
    {
        return Ok(file.to_vec());
    }
    Err(Error::Upload(format!(
        "the file {:?} is not supported: send a .yaml, .yml or .json file, or a zip or tar.gz archive with pipeline.yaml",
        name.chars().take(200).collect::<String>()
    )))
}

fn too_large(limit: usize) -> Error {
    Error::UploadTooLarge(format!("the specification is larger than {limit} bytes"))
}

fn too_many_members() -> Error {
    Error::Upload(format!("the archive has more than {MAX_MEMBERS} members"))
}

fn broken(kind: &str, error: &dyn std::fmt::Display) -> Error {
    Error::Upload(format!("the {kind} archive cannot be read: {error}"))
}

/// What was found so far.
#[derive(Default)]
struct Choice {
    first_yaml: Option<Vec<u8>>,
    members: usize,
}

impl Choice {
    /// Looks at a member's name; tells whether its content is wanted.
    fn wants(&mut self, name: &str) -> Result<bool, Error> {
        self.members += 1;
        if self.members > MAX_MEMBERS {
            return Err(too_many_members());
        }
        check_name(name)?;
        Ok(is_main(name) || (self.first_yaml.is_none() && is_yaml(name)))
    }

    fn end(self) -> Result<Vec<u8>, Error> {
        self.first_yaml.ok_or_else(|| {
            Error::Upload(
                "the archive has no member pipeline.yaml, nor another that ends in .yaml or .yml"
                    .to_owned(),
            )
        })
    }
}

fn is_main(name: &str) -> bool {
    name.strip_prefix("./").unwrap_or(name) == "pipeline.yaml"
}

fn is_yaml(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    lower.ends_with(".yaml") || lower.ends_with(".yml")
}

/// Members that would lead out of a folder are a sign of an attack, whoever unpacks the archive.
fn check_name(name: &str) -> Result<(), Error> {
    let leads_out = name.starts_with(['/', '\\'])
        || name.contains('\0')
        || name.split(['/', '\\']).any(|part| part == "..")
        || name.as_bytes().get(1) == Some(&b':');
    if leads_out {
        return Err(Error::Upload(format!(
            "the archive has a member that leads out of it: {:?}",
            name.chars().take(200).collect::<String>()
        )));
    }
    Ok(())
}

fn refuse_link(name: &str) -> Error {
    Error::Upload(format!(
        "the archive has a member that is not a file: {:?}",
        name.chars().take(200).collect::<String>()
    ))
}

fn from_tar(file: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
    // What is skipped is inflated too, so the limit is on everything that comes out of the decoder.
    let most = limit as u64 + TAR_OVERHEAD;
    let mut inflated = MultiGzDecoder::new(file).take(most + 1);
    let mut choice = Choice::default();
    let outcome = read_tar(&mut inflated, limit, &mut choice);
    if inflated.limit() == 0 {
        return Err(too_large(limit));
    }
    match outcome? {
        Some(main) => Ok(main),
        None => choice.end(),
    }
}

fn read_tar(
    inflated: impl Read,
    limit: usize,
    choice: &mut Choice,
) -> Result<Option<Vec<u8>>, Error> {
    let mut archive = tar::Archive::new(inflated);
    let mut main = None;
    for entry in archive.entries().map_err(|error| broken("tar", &error))? {
        let mut entry = entry.map_err(|error| broken("tar", &error))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let wanted = choice.wants(&name)?;
        let kind = entry.header().entry_type();
        if kind.is_dir() || kind.is_pax_global_extensions() {
            continue;
        }
        if !kind.is_file() {
            return Err(refuse_link(&name));
        }
        if !wanted || main.is_some() {
            continue;
        }
        let content = read_member(&mut entry, limit, "tar")?;
        if is_main(&name) {
            // The rest is still looked at: a bad member makes the whole archive bad.
            main = Some(content);
        } else {
            choice.first_yaml = Some(content);
        }
    }
    Ok(main)
}

fn from_zip(file: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
    check_directories(file)?;
    let mut archive =
        zip::ZipArchive::new(Cursor::new(file)).map_err(|error| broken("zip", &error))?;
    let mut choice = Choice::default();
    let mut main = None;
    for index in 0..archive.len() {
        let mut entry = archive
            .by_index(index)
            .map_err(|error| broken("zip", &error))?;
        let name = entry.name().to_owned();
        let wanted = choice.wants(&name)?;
        if entry.is_symlink() {
            return Err(refuse_link(&name));
        }
        if !wanted || main.is_some() || entry.is_dir() {
            continue;
        }
        let content = read_member(&mut entry, limit, "zip")?;
        if is_main(&name) {
            main = Some(content);
        } else {
            choice.first_yaml = Some(content);
        }
    }
    main.map_or_else(|| choice.end(), Ok)
}

/// Refuses a zip whose directory is too long before anything of it is read: each of its entries costs many times its
/// size in memory. A zip that has several directories is looked at as a whole, since a reader that cannot use the last
/// one tries those before it (APPNOTE.TXT, 4.3.14 to 4.3.16).
fn check_directories(file: &[u8]) -> Result<(), Error> {
    const LOCATOR: &[u8] = b"PK\x06\x07";
    const LOCATOR_BYTES: usize = 20;
    let mut ends = 0;
    for (at, _) in file.windows(2).enumerate().filter(|(_, two)| two == b"PK") {
        let record = &file[at..];
        let count = |at: usize, bytes: usize| {
            let number = record.get(at..at + bytes)?;
            Some(
                number
                    .iter()
                    .rev()
                    .fold(0, |sum, &byte| sum << 8 | u64::from(byte)),
            )
        };
        // The number on this disk, and the number in all.
        let counts = match &record[..record.len().min(4)] {
            b"PK\x05\x06" => [count(8, 2), count(10, 2)],
            b"PK\x06\x06" => [count(24, 8), count(32, 8)],
            _ => continue,
        };
        ends += 1;
        let elsewhere = record[2] == 5
            && at >= LOCATOR_BYTES
            && file[at - LOCATOR_BYTES..].starts_with(LOCATOR);
        let too_many = counts.into_iter().flatten().any(|count| {
            // In a large zip this number means that the other record has it.
            count > MAX_MEMBERS as u64 && !(elsewhere && count == u64::from(u16::MAX))
        });
        if too_many {
            return Err(too_many_members());
        }
        if ends > MAX_DIRECTORIES {
            return Err(Error::Upload(
                "the zip archive has too many directories".to_owned(),
            ));
        }
    }
    Ok(())
}

/// Reads a member, counting what comes out and not what the archive promises.
fn read_member(member: &mut impl Read, limit: usize, kind: &str) -> Result<Vec<u8>, Error> {
    let mut content = Vec::new();
    let outcome = member.take(limit as u64 + 1).read_to_end(&mut content);
    if content.len() > limit {
        return Err(too_large(limit));
    }
    match outcome {
        Ok(_) => Ok(content),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Err(broken(kind, &"it ends too early"))
        }
        Err(error) => Err(broken(kind, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end of a directory, as if it had so many entries.
    fn end(entries: u16, comment: &[u8]) -> Vec<u8> {
        let mut record = b"PK\x05\x06\0\0\0\0".to_vec();
        record.extend(entries.to_le_bytes());
        record.extend(entries.to_le_bytes());
        record.extend([0; 8]);
        record.extend((comment.len() as u16).to_le_bytes());
        record.extend(comment);
        record
    }

    fn end64(entries: u64) -> Vec<u8> {
        let mut record = b"PK\x06\x06".to_vec();
        record.extend(44_u64.to_le_bytes());
        record.extend([0; 12]);
        record.extend(entries.to_le_bytes());
        record.extend(entries.to_le_bytes());
        record.extend([0; 16]);
        record.extend(b"PK\x06\x07");
        record.extend([0; 16]);
        record
    }

    #[test]
    fn the_length_of_a_directory_is_known_before_it_is_read() {
        let table = [
            (end(0, b""), true),
            (end(1000, b"a comment"), true),
            (end(1001, b""), false),
            (end(u16::MAX, b""), false),
            ([end64(1000), end(u16::MAX, b"")].concat(), true),
            ([end64(1001), end(u16::MAX, b"")].concat(), false),
            ([end64(1 << 40), end(u16::MAX, b"")].concat(), false),
            // Behind one that cannot be used, and hidden in its comment.
            ([end(2000, b""), end(1, b"")].concat(), false),
            (end(1, &end(2000, b"")), false),
            (end(1, b"").repeat(16), true),
            (end(1, b"").repeat(17), false),
            (b"PKPK\x05".to_vec(), true),
            (b"PK\x05\x06".to_vec(), true),
        ];
        for (file, expected) in table {
            let outcome = check_directories(&file);
            assert_eq!(outcome.is_ok(), expected, "{outcome:?}");
        }
    }
}
