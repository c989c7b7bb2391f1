//! The values that reach the agent in memory.

use std::io::Read as _;
use std::path::Path;

use api_step::v1::{Assignment, Confidential};
use prost::Message as _;

use crate::failure::{self, Failure, cannot};

/// Reads the values of an assignment from the standard input; none when it has none.
pub(crate) fn read(assignment: &Assignment) -> Result<Confidential, Failure> {
    if !assignment.confidential {
        return Ok(Confidential::default());
    }
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut bytes);
    read.map_err(cannot("read the values for", Path::new("the step")))?;
    decode(&bytes)
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Confidential, Failure> {
    // What does not decode is not quoted.
    Confidential::decode(bytes).map_err(|_| {
        let message = "the values of secrets and config maps cannot be read";
        Failure::new(failure::AGENT_ERROR, message)
    })
}
